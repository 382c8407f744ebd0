//! From the journal to where it stays: each instance in it gets its file and its row, in the order in which they came, and
//! segments whose files are flushed are freed.
//!
//! Nobody is acknowledged by this. A sender waits for it when it releases its association, so that what it sent can be
//! looked at from then on; otherwise it is done soon, or when the journal runs short.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::Notify;

use crate::{
    AssociationId, Durability, Error, Stored,
    association::Associations,
    buffer::{BLOCK, Buffer},
    database::Database,
    disk::DiskFile,
    files::Files,
    instance::Row,
    journal::{Entry, Full, Journal, Work},
};

/// Instances that are filed in one transaction.
const AT_A_TIME: usize = 32;

/// Files what is in the journal.
pub(crate) struct Filing {
    pub(crate) journal: Arc<Journal>,
    files: Arc<Files>,
    database: Database,
    durability: Durability,
    associations: Associations,
    /// Notified when rows were made.
    filed: Arc<Notify>,
    /// Held by who files: instances are filed one after another.
    turn: Mutex<Buffer>,
    /// Held by who frees segments.
    freeing: Mutex<()>,
}

/// A file that was made and has no row yet.
struct Filed {
    entry: Entry,
    row: Row,
    association: Option<AssociationId>,
}

impl Filing {
    pub(crate) fn new(
        journal: Arc<Journal>,
        files: Arc<Files>,
        database: Database,
        durability: Durability,
        associations: Associations,
        filed: Arc<Notify>,
    ) -> Self {
        let (turn, freeing) = (Mutex::new(Buffer::new(BLOCK)), Mutex::default());
        Self { journal, files, database, durability, associations, filed, turn, freeing }
    }

    /// Files a record of the journal and all before it, once they are flushed if they are to be. Blocks.
    pub(crate) fn file_up_to(&self, number: u64) -> Result<(), Error> {
        let filed = self.try_to_file(number);
        self.watching(filed)
    }

    fn try_to_file(&self, number: u64) -> Result<(), Error> {
        if self.durability != Durability::None {
            self.journal.flush(number)?;
        }
        let mut buffer = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let entries = self.journal.unfiled(number, AT_A_TIME);
            if entries.is_empty() {
                // It may have grown to the longest instance.
                *buffer = Buffer::new(BLOCK);
                return Ok(());
            }
            let mut made = Vec::with_capacity(entries.len());
            for entry in entries {
                made.push(self.make_file(entry, &mut buffer)?);
            }
            self.make_rows(made)?;
        }
    }

    fn make_file(&self, entry: Entry, buffer: &mut Buffer) -> Result<Filed, Error> {
        let (record, data) = self.journal.read(&entry, buffer)?;
        let row: Row =
            serde_json::from_slice(&buffer.bytes()[record]).map_err(|error| Error::Record(error.to_string()))?;
        if entry.data_bytes() > 0 {
            self.files.write_whole(&row.path, &buffer.bytes()[data])?;
        }
        Ok(Filed { association: entry.association, entry, row })
    }

    fn make_rows(&self, made: Vec<Filed>) -> Result<(), Error> {
        let rows: Vec<Row> = made.iter().map(|filed| filed.row.clone()).collect();
        let stored = self.database.step_blocking(move |connection| {
            rows.iter().map(|row| row.insert(connection)).collect::<Result<Vec<Stored>, Error>>()
        })?;
        for (Filed { entry, row, association }, stored) in made.into_iter().zip(stored) {
            let new_at = (!matches!(stored, Stored::Again(_))).then_some(row.received_at);
            let study = match stored {
                Stored::New(study) => {
                    tracing::debug!(study, "instance stored");
                    study
                }
                Stored::Conflict(study) => {
                    tracing::warn!(
                        study,
                        "another instance came under a SOP Instance UID that is taken; it is kept beside the first one"
                    );
                    study
                }
                // It came twice before the first one had its row.
                Stored::Again(study) => {
                    self.files.remove(&self.files.absolute(&row.path));
                    self.files.budget.give_back(row.bytes);
                    study
                }
            };
            self.associations.brought(association, study, new_at);
            self.files.budget.filed(entry.data_bytes() as u64);
            if entry.data_bytes() > 0 {
                self.files.budget.file_made();
            }
            let file = (entry.data_bytes() > 0 && !matches!(stored, Stored::Again(_))).then_some(row.path);
            self.journal.filed(&entry, file);
        }
        self.filed.notify_one();
        Ok(())
    }

    /// Frees every segment that is full or ended, none of a later epoch than `up_to`; or only while too many are full.
    /// Blocks.
    pub(crate) fn free(&self, up_to: u64, only_what_is_needed: bool) -> Result<(), Error> {
        let _freeing = self.freeing.lock().unwrap_or_else(PoisonError::into_inner);
        while !only_what_is_needed || self.journal.is_pressed() {
            let Some(full) = self.journal.oldest_full(up_to) else { return Ok(()) };
            self.file_up_to(full.newest)?;
            let freed = self.checkpoint(&full);
            self.watching(freed)?;
        }
        Ok(())
    }

    fn checkpoint(&self, full: &Full) -> Result<(), Error> {
        let Some(files) = self.journal.files_of(full) else {
            // A record is still being written to it.
            std::thread::sleep(std::time::Duration::from_millis(1));
            return Ok(());
        };
        if self.durability != Durability::None {
            flush(&self.files, &files)?;
        }
        let epoch = i64::try_from(full.epoch).unwrap_or(0);
        self.database.write_blocking(move |connection| {
            connection.execute("UPDATE installation SET checkpointed_epoch = ?1", [epoch])?;
            Ok(())
        })?;
        self.journal.free(full);
        Ok(())
    }

    /// A full disk waits for room; whatever else goes wrong here is for a restart to recover, because what is acknowledged
    /// stays in the journal.
    fn watching(&self, result: Result<(), Error>) -> Result<(), Error> {
        result.inspect_err(|error| {
            if !error.is_full_disk() {
                self.database.fail(error);
            }
        })
    }
}

/// Files and frees until the journal is closed or the disk fails.
///
/// The rest is held weakly: it holds the spool's lock, which a closed spool must give up.
pub(crate) fn run(journal: &Journal, filing: &Weak<Filing>) {
    loop {
        let work = journal.wait_for_work();
        let Some(filing) = filing.upgrade() else { return };
        let done = match work {
            Work::End => return,
            Work::File => filing.file_up_to(journal.newest()),
            Work::FreeSome => filing.free(u64::MAX, true),
            Work::FreeAll => filing.free(journal.seal(), false),
        };
        drop(filing);
        match done {
            Ok(()) => journal.disk_is_full(false),
            Err(error) if error.is_full_disk() => {
                tracing::error!(%error, "what is in the journal cannot be filed yet");
                journal.disk_is_full(true);
            }
            Err(_) => return,
        }
    }
}

/// Makes files and their folders survive a power cut. A file that was removed since needs nothing.
pub(crate) fn flush(files: &Files, paths: &[String]) -> Result<(), Error> {
    let mut folders = BTreeSet::new();
    for relative in paths {
        let path = files.absolute(relative);
        match files.disk.open(&path) {
            Ok(file) => DiskFile::sync(&*file).map_err(Error::flush(&path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io(&path)(error)),
        }
        folders.extend(path.parent().map(Path::to_owned));
    }
    for folder in folders {
        files.disk.sync_folder(&folder).map_err(Error::flush(&folder))?;
    }
    Ok(())
}
