//! Whether the state database holds together (`PRAGMA quick_check`), in a time that is bounded.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode};

use crate::Error;

/// How long an interrupt may take to be noticed.
const AGAIN: Duration = Duration::from_millis(20);

/// How far a check got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// All of it holds together.
    Whole,
    /// Its time was over.
    InPart,
}

/// Looks at the structure of every table and index, and stops when `limit` is over. Errors with [`Error::Damaged`].
pub(super) fn quick_check(connection: &Connection, path: &Path, limit: Option<Duration>) -> Result<Checked, Error> {
    let interrupt = connection.get_interrupt_handle();
    let (done, ended) = mpsc::channel::<()>();
    let found = thread::scope(|scope| {
        if let Some(limit) = limit {
            scope.spawn(move || {
                let mut wait = limit;
                while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                    interrupt.interrupt();
                    // The query may not have begun.
                    wait = AGAIN;
                }
            });
        }
        let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        drop(done);
        found
    });
    match found {
        Ok(said) if said == "ok" => Ok(Checked::Whole),
        Ok(said) => Err(Error::Damaged { path: path.to_owned(), what: said }),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(Checked::InPart),
        Err(error) => Err(named(path, error.into())),
    }
}

/// An error of the database, with its file and what to do where that is damaged.
pub(super) fn named(path: &Path, error: Error) -> Error {
    match error {
        Error::Database(error) if crate::error::is_damage(&error) => {
            Error::Damaged { path: path.to_owned(), what: error.to_string() }
        }
        error => error,
    }
}

/// Damage that was found in passing.
pub(super) fn damaged(what: &str) -> Error {
    Error::Damaged { path: PathBuf::from("state.sqlite"), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_damaged_page_is_found_and_a_large_database_takes_no_longer_than_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT);
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
                 INSERT INTO t SELECT i, 'some text ' || i FROM n;",
            )
            .unwrap();
        assert_eq!(quick_check(&connection, &path, None).unwrap(), Checked::Whole);
        assert_eq!(quick_check(&connection, &path, Some(Duration::from_secs(60))).unwrap(), Checked::Whole);
        drop(connection);

        let mut bytes = fs::read(&path).unwrap();
        bytes[40_960..45_056].fill(0x5a);
        fs::write(&path, bytes).unwrap();
        let connection = Connection::open(&path).unwrap();
        let found = quick_check(&connection, &path, Some(Duration::from_secs(60)));
        assert!(found.is_err_and(|error| error.to_string().contains("sqlite3 state.sqlite .recover")));
    }

    #[test]
    fn a_check_ends_when_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT);
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000)
                 INSERT INTO t SELECT i, 'some text ' || i FROM n;",
            )
            .unwrap();
        assert_eq!(quick_check(&connection, &path, Some(Duration::ZERO)).unwrap(), Checked::InPart);
        assert_eq!(quick_check(&connection, &path, None).unwrap(), Checked::Whole, "it can be asked again");
    }
}
