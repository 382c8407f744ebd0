//! Connections to read with: several, so that a long look at all studies does not keep an instance from being acknowledged.

use std::sync::{
    Mutex, PoisonError, TryLockError,
    atomic::{AtomicUsize, Ordering},
};

use rusqlite::Connection;

pub(super) struct Readers {
    connections: Vec<Mutex<Connection>>,
    /// Whom to wait for next, when all are taken.
    next: AtomicUsize,
}

impl Readers {
    /// Of at least one connection.
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        Self { connections: connections.into_iter().map(Mutex::new).collect(), next: AtomicUsize::new(0) }
    }

    /// Runs `work` on a connection that nobody uses; waits for one only when all are used.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Connection) -> T) -> T {
        for connection in &self.connections {
            match connection.try_lock() {
                Ok(connection) => return work(&connection),
                Err(TryLockError::Poisoned(poisoned)) => return work(&poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        work(&self.connections[at].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_for_long_keeps_nobody_waiting_while_there_is_another_connection() {
        let readers = Readers::new((0..2).map(|_| Connection::open_in_memory().unwrap()).collect());
        let answer = readers.with(|_| {
            // On this very thread: with one connection it would wait for itself for ever.
            readers.with(|connection| connection.query_row("SELECT 7", [], |row| row.get::<_, i64>(0)).unwrap())
        });
        assert_eq!(answer, 7);
    }
}
