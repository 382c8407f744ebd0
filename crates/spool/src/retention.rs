//! What is removed when it is no longer needed: the instances of studies that ended long ago. Their rows and reports
//! stay, so that the versions of a report go on where they were.

use std::time::Duration;

use rusqlite::{Connection, params};

use crate::{Error, Spool, StudyId, Timestamp, outbox::DeliveryState};

/// How long the instances of a study stay after it ended. Without a duration they stay for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Of studies whose report every destination has.
    pub delivered: Option<Duration>,
    /// Of studies that no rule takes.
    pub skipped: Option<Duration>,
    /// Of studies that wait for a person and have no report to deliver.
    pub held: Option<Duration>,
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Studies that lost their instances.
    pub studies: usize,
    /// Files removed.
    pub files: usize,
    /// Bytes that are free again.
    pub bytes: u64,
}

/// Studies that ended so long ago, have files, and have nothing left to deliver: neither a delivery that waits nor one
/// that was given up.
fn expired() -> String {
    format!(
        "SELECT id FROM study WHERE state = ?1
         AND EXISTS (SELECT 1 FROM instance WHERE study_id = study.id)
         AND NOT EXISTS (SELECT 1 FROM delivery JOIN object ON object.id = object_id
                         JOIN report ON report.id = report_id
                         WHERE study_id = study.id AND delivery.state IN {})
         AND max(last_received_at, coalesce((SELECT max(delivered_at) FROM delivery JOIN object ON object.id = object_id
                                             JOIN report ON report.id = report_id WHERE study_id = study.id), 0)) <= ?2",
        DeliveryState::open_in_sql()
    )
}

impl Spool {
    /// Removes what [`Retention`] lets go of. What is not delivered is never removed.
    pub async fn retain(&self, retention: &Retention, now: Timestamp) -> Result<Removed, Error> {
        let mut removed = Removed::default();
        for (state, age) in
            [("delivered", retention.delivered), ("skipped", retention.skipped), ("held", retention.held)]
        {
            let Some(age) = age else { continue };
            let before = now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
            let expired: Vec<StudyId> = self.database.read(|connection| {
                connection.prepare(&expired())?.query_map(params![state, before], |row| row.get(0))?.collect()
            })?;
            if !expired.is_empty() {
                // Otherwise a start could give back from the journal what is removed here.
                self.checkpoint().await?;
            }
            for study in expired {
                self.remove_instances(study, state, before, now, &mut removed).await?;
            }
        }
        Ok(removed)
    }

    async fn remove_instances(
        &self,
        study: StudyId,
        state: &'static str,
        before: Timestamp,
        now: Timestamp,
        removed: &mut Removed,
    ) -> Result<(), Error> {
        let files = self
            .database
            .write(move |connection| {
                // An instance may have come since.
                let still: bool = connection.query_row(
                    &format!("SELECT EXISTS ({} AND id = ?3)", expired()),
                    params![state, before, study],
                    |row| row.get(0),
                )?;
                if still { forget(connection, study, now) } else { Ok(Vec::new()) }
            })
            .await?;
        removed.studies += usize::from(!files.is_empty());
        for (path, bytes) in files {
            self.files.remove(&self.absolute(&path));
            self.files.budget.give_back(bytes);
            removed.files += 1;
            removed.bytes += bytes;
        }
        Ok(())
    }
}

/// Removes the rows of a study's instances; answers their files. A crash before the files are gone leaves orphans, which
/// the next start removes.
fn forget(connection: &Connection, study: StudyId, now: Timestamp) -> Result<Vec<(String, u64)>, Error> {
    let mut statement = connection.prepare(
        "SELECT path, bytes FROM instance WHERE study_id = ?1 UNION ALL
         SELECT conflict.path, conflict.bytes FROM conflict JOIN instance ON instance.id = instance_id WHERE study_id = ?1",
    )?;
    let file = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)));
    let files = statement.query_map([study], file)?.collect::<rusqlite::Result<Vec<_>>>()?;
    connection
        .execute("DELETE FROM conflict WHERE instance_id IN (SELECT id FROM instance WHERE study_id = ?1)", [study])?;
    connection.execute("DELETE FROM instance WHERE study_id = ?1", [study])?;
    connection.execute("UPDATE study SET removed_at = ?2 WHERE id = ?1", params![study, now])?;
    Ok(files)
}
