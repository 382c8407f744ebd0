//! What a start does before anything else: makes journal, files and rows agree, from what the disk really holds.

pub(crate) mod loss;

use std::{collections::HashSet, io};

use dataset::{Digest, Digester};
use rusqlite::{Connection, params};

use crate::{
    Death, Durability, Error, Loss, Stored, StudyState, Timestamp, attempt,
    database::Opened,
    delivery,
    disk::DiskFile,
    files::{Files, INSTANCES, REPORTS},
    filing,
    instance::Row,
    journal::{Contents, Found, Journal, Receipt},
    study::clock,
};
use loss::Losses;

/// What recovery found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Files without a row that were removed: instances that were cut off while being received, and reports while being
    /// written; none was acknowledged.
    pub orphans: usize,
    /// Files without a row that stay, because something acknowledged is gone and they may be of it.
    pub kept_orphans: usize,
    /// What was acknowledged and is gone. Its studies are held.
    pub lost: Vec<Loss>,
    /// By how many milliseconds the clock is before the last instance that came, if it is.
    pub clock_behind: Option<Timestamp>,
    /// Whether the state database is so large that the rest of it is looked at while the daemon runs.
    pub is_checked_later: bool,
    /// Instances that the journal gave back: their file or their row was not made yet, or was lost in a power cut.
    pub restored: usize,
    /// Instances that the power cut took while they were being flushed; none was acknowledged.
    pub unfinished: usize,
    /// Studies whose reading was cut off; they will be read again.
    pub readings: usize,
    /// Studies whose reading ended the process.
    pub deaths: Vec<Death>,
    /// Studies of which a comparison of two data sets under one UID ended the process.
    pub deaths_of_comparisons: Vec<Death>,
    /// Rows whose file is gone: somebody or something removed acknowledged data. Their studies are held.
    pub missing: Vec<String>,
}

/// Recovers, and makes what it did durable.
pub(crate) fn recover(
    files: &Files,
    database: &mut Opened,
    journal: &Journal,
    contents: Contents,
    durability: Durability,
    now: Timestamp,
) -> Result<Recovery, Error> {
    let mut recovery = Recovery { clock_behind: clock::behind(&database.writer, now)?, ..Recovery::default() };
    if database.is_new {
        let received = files.files_below(INSTANCES)?.len();
        if received > 0 && contents.found.len() < received {
            return Err(Error::StateLost { dir: files.absolute(""), files: received });
        }
    }
    let may_be_more = may_have_lost_more(&database.writer, &contents)?;
    let mut restored = replay(files, database, journal, contents.found)?;
    restored.losses.may_be_more = may_be_more;
    for receipt in &contents.gone {
        without_record(files, database, receipt, &mut restored)?;
    }
    filing::flush(files, &restored.touched)?;
    (recovery.restored, recovery.unfinished) = (restored.instances, restored.unfinished);
    let epoch = i64::try_from(journal.epoch()).unwrap_or(i64::MAX);
    recovery.lost = database.transaction(|transaction| {
        let lost = restored.losses.note(transaction, now)?;
        transaction.execute("UPDATE installation SET checkpointed_epoch = ?1", [epoch])?;
        loss::begin(transaction, durability)?;
        Ok(lost)
    })?;
    let keep_orphans = loss::is_open(&database.writer)?;
    let known = known_files(&database.writer)?;
    let mut present: HashSet<String> = HashSet::new();
    for file in [files.files_below(INSTANCES)?, files.files_below(REPORTS)?].concat() {
        if known.contains(&file) {
            present.insert(file);
        } else if keep_orphans {
            recovery.kept_orphans += 1;
        } else {
            files.remove(&files.absolute(&file));
            recovery.orphans += 1;
        }
    }
    recovery.missing = known.difference(&present).cloned().collect();
    recovery.missing.sort();
    database.transaction(|transaction| {
        recovery.readings = settle_states(transaction, &recovery.missing, now)?;
        recovery.deaths = attempt::count_deaths(transaction)?;
        recovery.deaths_of_comparisons = attempt::count_deaths_of_comparisons(transaction)?;
        Ok(())
    })?;
    files.budget.set_used_bytes(kept_bytes(&database.writer)?);
    Ok(recovery)
}

/// Bytes of the instances that are kept.
pub(crate) fn kept_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let sum: i64 = connection.query_row(
        "SELECT coalesce((SELECT sum(bytes) FROM instance), 0) + coalesce((SELECT sum(bytes) FROM conflict), 0)",
        [],
        |row| row.get(0),
    )?;
    Ok(u64::try_from(sum).unwrap_or(0))
}

fn known_files(connection: &Connection) -> Result<HashSet<String>, Error> {
    let mut statement = connection
        .prepare("SELECT path FROM instance UNION ALL SELECT path FROM conflict UNION ALL SELECT path FROM object")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// What came of the journal.
#[derive(Default)]
struct Restored {
    instances: usize,
    unfinished: usize,
    /// Files that must be flushed before the journal is forgotten.
    touched: Vec<String>,
    losses: Losses,
}

/// Whether records may be gone of which no receipt is there to tell.
fn may_have_lost_more(connection: &Connection, contents: &Contents) -> Result<bool, Error> {
    Ok(match loss::unclosed(connection)?.as_deref() {
        None => false,
        // Every acknowledged instance had its receipt.
        Some(durability) if durability == Durability::Instance.as_str() => contents.lacks_receipts,
        Some(_) => contents.is_broken,
    })
}

/// Looks for an instance whose record is gone: its row or its file may be there.
fn without_record(
    files: &Files,
    database: &mut Opened,
    receipt: &Receipt,
    restored: &mut Restored,
) -> Result<(), Error> {
    let Ok(row) = serde_json::from_slice::<Row>(&receipt.record) else {
        restored.losses.unnamed += 1;
        return Ok(());
    };
    if matches!(row.known(&database.writer)?, Some(Stored::Again(_))) {
        return Ok(());
    }
    if !is_intact(files, &row)? {
        restored.losses.named.push(row);
        return Ok(());
    }
    restored.touched.push(row.path.clone());
    database.transaction(|transaction| row.insert(transaction))?;
    restored.instances += 1;
    Ok(())
}

/// Gives back what the journal holds and the files or the database lost.
fn replay(files: &Files, database: &mut Opened, journal: &Journal, found: Vec<Found>) -> Result<Restored, Error> {
    let mut restored = Restored::default();
    for found in found {
        let row: Row = serde_json::from_slice(&found.record).map_err(|error| Error::Record(error.to_string()))?;
        let known = row.known(&database.writer)?;
        if matches!(known, Some(Stored::Again(_))) && !is_referenced(&database.writer, &row.path)? {
            // The same instance came twice at the same time, and this copy was dropped.
            continue;
        }
        let mut changed = false;
        if !is_intact(files, &row)? {
            let bytes = journal.bytes_of(&found)?;
            match bytes.filter(|bytes| Digest::of(&bytes[data_set_at(&row, bytes)..]).to_string() == row.digest) {
                Some(bytes) => {
                    files.write_whole(&row.path, &bytes)?;
                    changed = true;
                }
                None if known.is_none_or(|known| matches!(known, Stored::Conflict(_))) => {
                    if found.was_flushed {
                        restored.losses.named.push(row);
                    } else {
                        // The power went before all of it was flushed: it was not acknowledged.
                        restored.unfinished += 1;
                    }
                    continue;
                }
                // It was; what is wrong with its file now is for a scrub to find, and for a person to see.
                None => {}
            }
        }
        restored.touched.push(row.path.clone());
        if !matches!(known, Some(Stored::Again(_))) {
            database.transaction(|transaction| row.insert(transaction))?;
            changed = true;
        }
        restored.instances += usize::from(changed);
    }
    Ok(restored)
}

fn data_set_at(row: &Row, bytes: &[u8]) -> usize {
    usize::try_from(row.data_set_at).unwrap_or(usize::MAX).min(bytes.len())
}

fn is_referenced(connection: &Connection, path: &str) -> Result<bool, Error> {
    Ok(connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM instance WHERE path = ?1) OR EXISTS (SELECT 1 FROM conflict WHERE path = ?1)",
        [path],
        |row| row.get(0),
    )?)
}

/// Whether a file holds what its row says.
fn is_intact(files: &Files, row: &Row) -> Result<bool, Error> {
    let path = files.absolute(&row.path);
    match files.disk.open(&path) {
        Ok(file) => {
            let (digest, bytes) = digest_of(&*file, row.data_set_at).map_err(Error::io(&path))?;
            Ok(bytes == row.bytes && digest.to_string() == row.digest)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(&path)(error)),
    }
}

/// The digest of a file's data set, and the bytes of the whole file.
pub(crate) fn digest_of(file: &dyn DiskFile, data_set_at: u64) -> io::Result<(Digest, u64)> {
    let mut digester = Digester::default();
    let mut buffer = vec![0; 128 << 10];
    let mut at = data_set_at;
    loop {
        match file.read_at(&mut buffer, at)? {
            0 => return Ok((digester.digest(), at)),
            count => {
                digester.update(&buffer[..count]);
                at += count as u64;
            }
        }
    }
}

/// Readings that were cut off are taken again; studies whose files are gone are held.
fn settle_states(transaction: &Connection, missing: &[String], now: Timestamp) -> Result<usize, Error> {
    let readings = transaction.execute("UPDATE study SET state = 'settled' WHERE state = 'reading'", [])?;
    // A state of a later version, which nothing here would ever leave.
    let known: Vec<String> = StudyState::ALL.iter().map(|state| format!("'{state}'")).collect();
    transaction.execute(
        &format!(
            "UPDATE study SET reason = 'its state, \"' || state || '\", is not known to this preread; was it written by a later '
                 || 'one? Install that one, or `preread queue retry`', state = 'held'
             WHERE state NOT IN ({})",
            known.join(", ")
        ),
        [],
    )?;
    delivery::give_up_unknown_kinds(transaction)?;
    // Senders that were cut off come back: they get the whole quiet period again.
    transaction
        .execute("UPDATE study SET due_at = max(due_at, ?1 + quiet_ms) WHERE state = 'received'", params![now])?;
    clock::at_start(transaction, now)?;
    for path in missing {
        transaction.execute(
            "UPDATE study SET state = 'held', reason = 'a file of this study is gone from the spool: ' || ?1
             WHERE id IN (SELECT study_id FROM instance WHERE path = ?1
                          UNION SELECT study_id FROM conflict JOIN instance ON instance.id = instance_id
                                WHERE conflict.path = ?1
                          UNION SELECT study_id FROM object JOIN report ON report.id = report_id WHERE path = ?1)",
            params![path],
        )?;
    }
    Ok(readings)
}
