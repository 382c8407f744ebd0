//! The open associations: what they brought, and how long a study waits for them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::Row;

use crate::{Error, Spool, StudyId, Timestamp};

/// A number for an association, chosen by the receiver and unique while the daemon runs.
pub type AssociationId = u64;

/// How long an association that stays open keeps a study from settling, from its last instance of that study on: many
/// senders keep one for all their studies, and who keeps it open must not decide whether a study is ever read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patience {
    /// For every study; without it four of the study's quiet periods, and at least ten seconds.
    pub always: Option<Duration>,
}

/// Quiet periods that a study waits for an association.
const QUIET_PERIODS: i64 = 4;
/// Milliseconds that it waits at least.
const AT_LEAST: i64 = 10_000;

impl Patience {
    /// In milliseconds.
    fn of(self, quiet_ms: i64) -> i64 {
        match self.always {
            Some(always) => i64::try_from(always.as_millis()).unwrap_or(i64::MAX),
            None => quiet_ms.saturating_mul(QUIET_PERIODS).max(AT_LEAST),
        }
    }
}

/// A study that is being received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quiet {
    pub(crate) study: StudyId,
    pub(crate) quiet_ms: i64,
    /// When its quiet period is over.
    pub(crate) due_at: Timestamp,
}

impl Quiet {
    /// Of the columns id, quiet_ms and due_at. What is no number there keeps no study from being found.
    pub(crate) fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { study: row.get(0)?, quiet_ms: row.get(1).unwrap_or(0), due_at: row.get(2).unwrap_or(0) })
    }
}

/// The open associations. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Associations {
    open: Arc<Mutex<HashMap<AssociationId, Open>>>,
    patience: Patience,
}

/// An open association.
struct Open {
    /// The peer's name in the configuration.
    peer: String,
    /// When it brought the last new instance of each study that it brought one of; nothing where all were known before.
    studies: HashMap<StudyId, Option<Timestamp>>,
    /// The newest record in the journal of an instance that it has brought.
    newest: u64,
}

impl Associations {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { open: Arc::default(), patience }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AssociationId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an instance of a study that an association has brought: when, unless it was known before.
    pub(crate) fn brought(&self, association: Option<AssociationId>, study: StudyId, new_at: Option<Timestamp>) {
        let mut open = self.lock();
        if let Some(open) = association.and_then(|association| open.get_mut(&association)) {
            let last = open.studies.entry(study).or_default();
            *last = new_at.max(*last);
        }
    }

    /// The clock went back: nothing was brought later than now.
    pub(crate) fn clock_went_back(&self, now: Timestamp) {
        for open in self.lock().values_mut() {
            open.studies.values_mut().flatten().for_each(|last| *last = now.min(*last));
        }
    }

    /// Notes the record of an instance that an association has brought.
    pub(crate) fn appended(&self, association: AssociationId, number: u64) {
        if let Some(open) = self.lock().get_mut(&association) {
            open.newest = open.newest.max(number);
        }
    }

    fn newest(&self, association: AssociationId) -> u64 {
        self.lock().get(&association).map_or(0, |open| open.newest)
    }

    /// The peer whose open association keeps a study with this quiet period, over at `due_at`, from settling.
    pub(crate) fn keep_waiting(&self, quiet: Quiet, now: Timestamp) -> Option<String> {
        let patience = self.patience.of(quiet.quiet_ms);
        // Repetitions alone, which a sender may send for ever, count from the end of the quiet period.
        let waits = |open: &&Open| {
            let last = open.studies.get(&quiet.study).map(|last| last.unwrap_or(quiet.due_at));
            last.is_some_and(|last| now < last.saturating_add(patience))
        };
        self.lock().values().find(waits).map(|open| open.peer.clone())
    }
}

impl Spool {
    /// An association of `peer` is open: the studies it brings do not settle until [`Self::association_closed`], or until
    /// its [`Patience`] with them is over.
    pub fn association_opened(&self, association: AssociationId, peer: &str) {
        let open = Open { peer: peer.to_owned(), studies: HashMap::new(), newest: 0 };
        self.associations.lock().insert(association, open);
    }

    /// An association is closed, in whatever way.
    pub fn association_closed(&self, association: AssociationId) {
        self.associations.lock().remove(&association);
    }

    /// How many studies an open association has brought instances of, as far as they are filed: all of them after
    /// [`Self::flush_association`], unless the disk is full.
    pub fn studies_of_association(&self, association: AssociationId) -> usize {
        self.associations.lock().get(&association).map_or(0, |open| open.studies.len())
    }

    /// What was acknowledged on an association has its files and its rows when this answers, and with
    /// [`crate::Durability::Association`] it survives a power cut from now on. Called before the association is released.
    pub async fn flush_association(&self, association: AssociationId) -> Result<(), Error> {
        let newest = self.associations.newest(association);
        if newest == 0 {
            return Ok(());
        }
        match self.in_filing(move |filing| filing.file_up_to(newest)).await {
            // It is kept where it is until there is room.
            Err(error) if error.is_full_disk() => Ok(()),
            filed => filed,
        }
    }
}
