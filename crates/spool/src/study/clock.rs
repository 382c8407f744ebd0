//! When the clock goes back, what is due in what is now the future need not wait until then.

use rusqlite::{Connection, params};

use crate::{Error, Spool, Timestamp, outbox::DeliveryState};

impl Spool {
    /// The clock went back, and is `now`: studies that are being received are due no later than after their whole quiet
    /// period from now, and deliveries and results of storage commitment that wait are tried at once.
    pub async fn clock_went_back(&self, now: Timestamp) -> Result<(), Error> {
        self.associations.clock_went_back(now);
        self.database.step(move |connection| bring_back(connection, now, 0)).await?;
        self.filed.notify_one();
        Ok(())
    }
}

/// What waits for longer than this does so because the clock went back, seen or not.
const LONGEST_WAIT_MS: Timestamp = 60 * 60 * 1000;

/// See [`Spool::clock_went_back`]; at a start.
pub(crate) fn at_start(connection: &Connection, now: Timestamp) -> Result<(), Error> {
    let longest = if behind(connection, now)?.is_some() { 0 } else { LONGEST_WAIT_MS };
    bring_back(connection, now, longest)
}

/// What is due in more than `longest` is due now.
fn bring_back(connection: &Connection, now: Timestamp, longest: Timestamp) -> Result<(), Error> {
    let latest = now.saturating_add(longest);
    connection.execute(
        "UPDATE study SET due_at = ?1 + quiet_ms WHERE state = 'received' AND due_at > ?1 + quiet_ms",
        [now],
    )?;
    connection.execute(
        "UPDATE delivery SET next_at = ?1 WHERE state = ?2 AND next_at > ?3",
        params![now, DeliveryState::Pending, latest],
    )?;
    connection
        .execute("UPDATE commitment SET next_at = ?1 WHERE state = 'waiting' AND next_at > ?2", params![now, latest])?;
    Ok(())
}

/// By how many milliseconds the newest time that was noted is after `now`; nothing when none is.
pub(crate) fn behind(connection: &Connection, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let newest: Timestamp =
        connection.query_row("SELECT coalesce(max(last_received_at), 0) FROM study", [], |row| row.get(0))?;
    Ok(Some(newest.saturating_sub(now)).filter(|ahead| *ahead > 0))
}
