//! What is being read is noted before it is, so that a reading that ends the process (a signal in native code, no memory
//! left) is known at the next start, and a study that does so twice waits for a person instead of ending it for ever.

use rusqlite::{Connection, params};

use crate::{Claim, Compared, ConflictId, Error, Pair, Spool, StudyId, decision};

pub(crate) const SCHEMA: &str = "
-- readings that have begun and have not ended, those ahead too; what is here at a start ended the process
CREATE TABLE attempt (
    study_id   INTEGER PRIMARY KEY REFERENCES study,
    generation INTEGER NOT NULL,
    ahead      INTEGER NOT NULL
);
-- models that are being loaded ahead of the first study that needs them, or whose loading ended the process
CREATE TABLE preload (model_digest TEXT PRIMARY KEY);
";

/// Made at each start where it is not there: version 3 was in use before there was one.
pub(crate) const COMPARISON: &str = "
-- pairs of data sets under one UID that are being compared, or whose comparison ended the process
CREATE TABLE IF NOT EXISTS comparison (
    conflict_id INTEGER PRIMARY KEY REFERENCES conflict ON DELETE CASCADE,
    deaths      INTEGER NOT NULL DEFAULT 0,
    begun       INTEGER NOT NULL
);
";

/// After so many deaths a study waits for a person.
const MOST_DEATHS: i64 = 2;

/// A study whose reading, or the comparison of two data sets of which, ended the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// The study.
    pub study: StudyId,
    /// How often it did by now, since a person last said to try again.
    pub deaths: i64,
    /// Whether it is not tried again: the study is held, or the two data sets wait for a person.
    pub held: bool,
}

impl Spool {
    /// Notes, for good, that a study is about to be read ahead. [`Self::claim`] does it for one that has settled.
    ///
    /// False when it has settled or got more instances since `claim`, so that there is nothing to read ahead.
    pub async fn begin_ahead(&self, claim: &Claim) -> Result<bool, Error> {
        let (study, generation) = (claim.study, claim.generation());
        self.database
            .write(move |connection| {
                let is_there: bool = connection.query_row(
                    "SELECT EXISTS (SELECT 1 FROM study WHERE id = ?1 AND generation = ?2 AND state = 'received')",
                    params![study, generation],
                    |row| row.get(0),
                )?;
                if is_there {
                    begin(connection, study, generation, true)?;
                }
                Ok(is_there)
            })
            .await
    }

    /// Notes that a reading ahead has ended, in whatever way.
    pub async fn end_ahead(&self, claim: &Claim) -> Result<(), Error> {
        let study = claim.study;
        self.database.step(move |connection| end(connection, study)).await
    }

    /// Notes, for good, that a model is about to be loaded ahead of the first study that needs it; false when that ended
    /// the process before, so that it should wait for that study.
    pub async fn begin_preload(&self, model_digest: &str) -> Result<bool, Error> {
        let digest = model_digest.to_owned();
        self.database
            .write(move |connection| {
                let begun = connection.execute("INSERT OR IGNORE INTO preload (model_digest) VALUES (?1)", [digest])?;
                Ok(begun == 1)
            })
            .await
    }

    /// Notes that the loading of a model has ended, in whatever way.
    pub async fn end_preload(&self, model_digest: &str) -> Result<(), Error> {
        let digest = model_digest.to_owned();
        self.database
            .step(move |connection| {
                connection.execute("DELETE FROM preload WHERE model_digest = ?1", [digest])?;
                Ok(())
            })
            .await
    }

    /// Notes, for good, that a pair is about to be compared; [`Self::compared`] ends it.
    ///
    /// False when it was compared meanwhile.
    pub async fn begin_comparison(&self, pair: &Pair) -> Result<bool, Error> {
        let id = pair.id;
        self.database
            .write(move |connection| {
                let begun = connection.execute(
                    "INSERT INTO comparison (conflict_id, begun)
                     SELECT id, 1 FROM conflict WHERE id = ?1 AND decision IS NULL
                     ON CONFLICT (conflict_id) DO UPDATE SET begun = 1",
                    [id],
                )?;
                Ok(begun == 1)
            })
            .await
    }

    /// Forgets what has begun: the process ends because a person wants it to, and not because of what it does.
    pub async fn forget_attempts(&self) -> Result<(), Error> {
        self.database
            .write(|connection| {
                connection.execute("DELETE FROM attempt", [])?;
                connection.execute("DELETE FROM preload", [])?;
                connection.execute("UPDATE comparison SET begun = 0", [])?;
                Ok(())
            })
            .await
    }
}

/// Notes that a reading begins.
pub(crate) fn begin(connection: &Connection, study: StudyId, generation: i64, ahead: bool) -> Result<(), Error> {
    connection.execute(
        "INSERT OR REPLACE INTO attempt (study_id, generation, ahead) VALUES (?1, ?2, ?3)",
        params![study, generation, ahead],
    )?;
    Ok(())
}

/// Notes that a reading has ended.
pub(crate) fn end(connection: &Connection, study: StudyId) -> Result<(), Error> {
    connection.execute("DELETE FROM attempt WHERE study_id = ?1", [study])?;
    Ok(())
}

/// What was open when the process ended counts as its end; a study of which that was said too often is held. After
/// readings that were cut off are settled again.
pub(crate) fn count_deaths(connection: &Connection) -> Result<Vec<Death>, Error> {
    connection.execute("UPDATE study SET deaths = deaths + 1 WHERE id IN (SELECT study_id FROM attempt)", [])?;
    // As if a person had stopped it: another instance does not make it less dangerous.
    connection.execute(
        "UPDATE study SET state = 'held', stopped = 1, reason = 'preread ended ' || deaths || ' times while it read this '
             || 'study (ended by a signal, for want of memory, or at a power cut; the log of the system says which), so '
             || 'it is not read by itself any more; `preread queue retry ' || id || '` tries again, after the machine '
             || 'got more memory or the model was replaced'
         WHERE id IN (SELECT study_id FROM attempt) AND deaths >= ?1 AND state IN ('received', 'settled')",
        [MOST_DEATHS],
    )?;
    let deaths = connection
        .prepare("SELECT id, deaths, state = 'held' FROM study WHERE id IN (SELECT study_id FROM attempt) ORDER BY id")?
        .query_map([], |row| Ok(Death { study: row.get(0)?, deaths: row.get(1)?, held: row.get(2)? }))?
        .collect::<rusqlite::Result<_>>()?;
    connection.execute("DELETE FROM attempt", [])?;
    Ok(deaths)
}

/// The same of comparisons: after the second death the two data sets wait for a person, as those that differ do.
pub(crate) fn count_deaths_of_comparisons(connection: &Connection) -> Result<Vec<Death>, Error> {
    connection.execute("UPDATE comparison SET deaths = deaths + 1 WHERE begun", [])?;
    let died: Vec<(ConflictId, Death)> = connection
        .prepare(
            "SELECT conflict.id, study_id, deaths FROM comparison JOIN conflict ON conflict.id = conflict_id
             JOIN instance ON instance.id = instance_id WHERE begun ORDER BY conflict.id",
        )?
        .query_map([], |row| {
            let deaths = row.get(2)?;
            Ok((row.get(0)?, Death { study: row.get(1)?, deaths, held: deaths >= MOST_DEATHS }))
        })?
        .collect::<rusqlite::Result<_>>()?;
    connection.execute("UPDATE comparison SET begun = 0", [])?;
    for (conflict, death) in died.iter().filter(|(_, death)| death.held) {
        let why = format!("they are not compared any more: that ended preread {} times", death.deaths);
        decision::found(connection, *conflict, death.study, Compared::Differs(why))?;
    }
    Ok(died.into_iter().map(|(_, death)| death).collect())
}

/// Notes that a comparison has ended.
pub(crate) fn end_comparison(connection: &Connection, conflict: ConflictId) -> Result<(), Error> {
    connection.execute("DELETE FROM comparison WHERE conflict_id = ?1", [conflict])?;
    Ok(())
}
