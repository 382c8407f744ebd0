//! Stopping a request: by hand, or at a deadline.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use ort::session::RunOptions;

use crate::error::{Error, Result};

/// Stops a running request. Clones stop the same one.
///
/// The request ends within one token: cancelling interrupts the graph that is running, a deadline is looked at before
/// each graph runs.
#[derive(Clone, Default)]
pub struct Cancel(Arc<State>);

#[derive(Default)]
struct State {
    cancelled: AtomicBool,
    deadline: Option<Instant>,
    /// The graph run in progress.
    running: Mutex<Weak<RunOptions>>,
}

impl Cancel {
    /// Without a deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the request with [`Error::DeadlineExceeded`] after `deadline`.
    pub fn at(deadline: Instant) -> Self {
        Self(Arc::new(State { deadline: Some(deadline), ..State::default() }))
    }

    /// Ends the request with [`Error::Cancelled`], or [`Error::DeadlineExceeded`] if its deadline has passed by then.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(Err(error)) = running.map(|options| options.terminate()) {
            tracing::warn!(%error, "a running graph could not be interrupted; it ends by itself");
        }
    }

    /// When the request has to be done.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// Whether the request may go on.
    ///
    /// # Errors
    /// [`Error::DeadlineExceeded`] after the deadline, [`Error::Cancelled`] after [`Cancel::cancel`].
    pub fn check(&self) -> Result<()> {
        if self.0.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::DeadlineExceeded);
        }
        if self.0.cancelled.load(Ordering::SeqCst) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Names the graph run that `cancel` has to interrupt from now on.
    pub(crate) fn watch(&self, options: &Arc<RunOptions>) -> Result<()> {
        *self.0.running.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(options);
        // After the registration, so that a cancellation between the two is seen by one of them.
        self.check()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = &self.0;
        f.debug_struct("Cancel").field("cancelled", &state.cancelled).field("deadline", &state.deadline).finish()
    }
}
