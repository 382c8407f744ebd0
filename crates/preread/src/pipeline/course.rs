//! How far a reading has come, and until when it may go on: one deadline, from the claim to the written report.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::End;
use crate::route::Rule;

/// The course of one reading. Whoever waits for it can see what it does.
pub(crate) struct Course {
    limit: Duration,
    until: Instant,
    /// The study's number in the spool; none where there is no spool.
    pub(crate) study: Option<i64>,
    step: Mutex<String>,
}

impl Course {
    /// From now on, and no longer than `limit`.
    pub(crate) fn new(study: Option<i64>, limit: Duration) -> Self {
        let step = Mutex::new("for a thread".to_owned());
        Self { limit, until: Instant::now() + limit, study, step }
    }

    /// When it must have ended.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// What it waits for, such as `for its images`.
    pub(crate) fn waits(&self) -> String {
        self.step.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what comes next, if there is time for it.
    pub(super) fn begin(&self, step: impl Into<String>, rule: Option<&Rule>) -> Result<(), End> {
        self.in_time(rule)?;
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step.into();
        Ok(())
    }

    /// Errors when the time is over.
    pub(super) fn in_time(&self, rule: Option<&Rule>) -> Result<(), End> {
        if Instant::now() < self.until {
            return Ok(());
        }
        Err(End::Held {
            what: "the reading took too long",
            reason: self.too_long(),
            rule: rule.map(|it| it.name.clone()),
        })
    }

    /// Why a reading that did not end in time is held.
    pub(crate) fn too_long(&self) -> String {
        format!(
            "it was not read within {} s (study.deadline): the time was over while it waited {}",
            self.limit.as_secs_f32(),
            self.waits()
        )
    }
}
