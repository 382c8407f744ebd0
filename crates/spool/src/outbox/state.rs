//! The states of a delivery: every one there is, and what follows from each. No other file writes their names.

use rusqlite::{
    ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};
use serde::Serialize;

/// Where an object stands on its way to one destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// To be sent, or sent again.
    Pending,
    /// The destination has it.
    Delivered,
    /// The destination does not take it as what it is, and got another object of the same report instead.
    Replaced,
    /// Given up, or stopped by a person: only a person sends it again.
    Failed,
    /// A newer version of the report, or a verified one of somebody's, was there before this one was sent.
    Superseded,
    /// The report was withdrawn, or rejected, before it was sent.
    Withdrawn,
}

impl DeliveryState {
    const ALL: [Self; 6] =
        [Self::Pending, Self::Delivered, Self::Replaced, Self::Failed, Self::Superseded, Self::Withdrawn];

    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Replaced => "replaced",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Whether the object is still to reach the destination: then it can be retried, and the study keeps its instances.
    pub(crate) fn is_open(self) -> bool {
        match self {
            Self::Pending | Self::Failed => true,
            Self::Delivered | Self::Replaced | Self::Superseded | Self::Withdrawn => false,
        }
    }

    /// The states that are open, as a list for SQL's `IN`.
    pub(crate) fn open_in_sql() -> String {
        let open: Vec<String> = Self::ALL
            .into_iter()
            .filter(|state| state.is_open())
            .map(|state| format!("'{}'", state.as_str()))
            .collect();
        format!("({})", open.join(", "))
    }
}

impl ToSql for DeliveryState {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.as_str().as_bytes())))
    }
}

impl FromSql for DeliveryState {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name = value.as_str()?;
        Self::ALL.into_iter().find(|state| state.as_str() == name).ok_or(FromSqlError::InvalidType)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_read_back_and_the_open_ones_are_listed() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        for state in DeliveryState::ALL {
            let read: DeliveryState = connection.query_row("SELECT ?1", [state], |row| row.get(0)).unwrap();
            assert_eq!(read, state);
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert!(connection.query_row("SELECT 'sideways'", [], |row| row.get::<_, DeliveryState>(0)).is_err());
        assert_eq!(DeliveryState::open_in_sql(), "('pending', 'failed')");
    }
}
