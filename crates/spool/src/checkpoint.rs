//! What frees the journal: the files that its records speak of are flushed themselves.

use std::{collections::BTreeSet, io, path::Path, sync::Weak, time::Duration};

use crate::{
    Error,
    database::Database,
    files::Files,
    journal::{Journal, Work},
};

/// How long nothing has come before what is in the journal is checkpointed.
const IDLE: Duration = Duration::from_secs(2);

/// Checkpoints what has filled up or lain idle, until the journal is closed or the disk fails.
///
/// The files are held weakly: they hold the spool's lock, which a closed spool must give up.
pub(crate) fn run(journal: &Journal, files: &Weak<Files>, database: &Database) {
    loop {
        let work = journal.wait_for_work(IDLE);
        let Some(files) = files.upgrade().filter(|_| work != Work::End) else { return };
        if run_once(journal, &files, database, work == Work::All).is_err() {
            return;
        }
    }
}

/// Checkpoints every segment that can be.
pub(crate) fn run_once(journal: &Journal, files: &Files, database: &Database, all: bool) -> Result<(), Error> {
    while let Some(checkpoint) = journal.to_checkpoint(all) {
        flush(files, &checkpoint.files)?;
        let epoch = checkpoint.epoch;
        database.write_blocking(move |connection| {
            connection
                .execute("UPDATE installation SET checkpointed_epoch = ?1", [i64::try_from(epoch).unwrap_or(0)])?;
            Ok(())
        })?;
        journal.checkpointed(&checkpoint);
    }
    Ok(())
}

/// Makes files and their folders survive a power cut. A file that was removed since needs nothing.
pub(crate) fn flush(files: &Files, paths: &[String]) -> Result<(), Error> {
    let mut folders = BTreeSet::new();
    for relative in paths {
        let path = files.absolute(relative);
        match files.disk.open(&path) {
            Ok(file) => file.sync().map_err(Error::flush(&path))?,
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
