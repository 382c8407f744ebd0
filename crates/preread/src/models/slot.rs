//! A place for something that takes long to be made. Who asks for it waits no longer than he has time; what is made meanwhile
//! is there for the next one, and no lock is held while it is made.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often somebody who waits is told so in the log.
const SAY: Duration = Duration::from_secs(30);

pub(super) struct Slot<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

enum State<T> {
    Empty,
    Making,
    /// It could not be made, and why; the next one who asks has it tried again.
    Failed(String),
    There {
        what: Arc<T>,
        last_used: u64,
    },
}

/// Why somebody who asked goes away with nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotThere {
    /// His time was over first.
    Late,
    /// It could not be made.
    Failed(String),
}

/// Something that is there, and could be taken away.
pub(super) struct Held<'a, T> {
    state: MutexGuard<'a, State<T>>,
    /// Somebody besides the slot has it.
    pub(super) in_use: bool,
    pub(super) last_used: u64,
}

impl<T> Slot<T> {
    pub(super) fn empty() -> Self {
        Self { state: Mutex::new(State::Empty), changed: Condvar::new() }
    }

    /// What is there. Where nothing is, `make` has it made, without waiting for it, and [`Self::put`] brings it. `used` is the
    /// time of this use, on a clock of the caller's.
    pub(super) fn get(
        &self,
        until: Instant,
        used: u64,
        make: impl Fn() -> Result<(), String>,
        mut say: impl FnMut(Duration),
    ) -> Result<Arc<T>, NotThere> {
        let began = Instant::now();
        let (mut waited, mut said) = (false, 0);
        let mut state = self.lock();
        loop {
            match &mut *state {
                State::There { what, last_used } => {
                    *last_used = used;
                    return Ok(Arc::clone(what));
                }
                State::Failed(why) if waited => return Err(NotThere::Failed(why.clone())),
                State::Making => {}
                State::Empty | State::Failed(_) => {
                    make().map_err(NotThere::Failed)?;
                    *state = State::Making;
                }
            }
            waited = true;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NotThere::Late);
            }
            let waiting = self.changed.wait_timeout(state, left.min(SAY));
            state = waiting.unwrap_or_else(PoisonError::into_inner).0;
            if began.elapsed().as_secs() / SAY.as_secs() > said {
                said = began.elapsed().as_secs() / SAY.as_secs();
                say(began.elapsed());
            }
        }
    }

    /// Brings what was made, or why it could not be.
    pub(super) fn put(&self, made: Result<T, String>, used: u64) {
        *self.lock() = match made {
            Ok(what) => State::There { what: Arc::new(what), last_used: used },
            Err(why) => State::Failed(why),
        };
        self.changed.notify_all();
    }

    /// What is there, held so that nobody takes it meanwhile.
    pub(super) fn held(&self) -> Option<Held<'_, T>> {
        let state = self.lock();
        let State::There { what, last_used } = &*state else { return None };
        let (in_use, last_used) = (Arc::strong_count(what) > 1, *last_used);
        Some(Held { state, in_use, last_used })
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Held<'_, T> {
    /// Takes it away.
    pub(super) fn drop_it(mut self) {
        *self.state = State::Empty;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    fn soon(milliseconds: u64) -> Instant {
        Instant::now() + Duration::from_millis(milliseconds)
    }

    #[test]
    fn who_has_no_time_goes_away_and_what_was_made_is_there_for_the_next() {
        let slot = Arc::new(Slot::<u32>::empty());
        let made = AtomicUsize::new(0);
        let make = || {
            made.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let get = |until| slot.get(until, 1, make, |_| {});
        assert_eq!(get(soon(20)), Err(NotThere::Late));
        // It is being made already: nobody begins anew.
        assert_eq!(get(soon(20)), Err(NotThere::Late));
        let maker = Arc::clone(&slot);
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            maker.put(Ok(7), 1);
        });
        assert_eq!(get(soon(60_000)), Ok(Arc::new(7)));
        thread.join().unwrap();
        // What is there is had without time.
        assert_eq!(get(Instant::now()), Ok(Arc::new(7)));
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_failed_is_said_to_who_waited_and_tried_again_for_the_next() {
        let slot = Arc::new(Slot::<u32>::empty());
        let fails = |slot: &Arc<Slot<u32>>| {
            let slot = Arc::clone(slot);
            thread::spawn(move || slot.put(Err("no room".to_owned()), 1));
            Ok(())
        };
        for _ in 0..2 {
            let got = slot.get(soon(60_000), 1, || fails(&slot), |_| {});
            assert_eq!(got, Err(NotThere::Failed("no room".to_owned())));
        }
        let refused = slot.get(soon(60_000), 1, || Err("no thread".to_owned()), |_| {});
        assert_eq!(refused, Err(NotThere::Failed("no thread".to_owned())));
    }

    #[test]
    fn what_somebody_has_is_known() {
        let slot = Slot::<u32>::empty();
        assert!(slot.held().is_none());
        slot.put(Ok(7), 3);
        assert!(slot.held().is_some_and(|held| !held.in_use && held.last_used == 3));
        let taken = slot.get(soon(1), 5, || Ok(()), |_| {}).unwrap();
        assert!(slot.held().is_some_and(|held| held.in_use && held.last_used == 5));
        drop(taken);
        slot.held().unwrap().drop_it();
        assert!(slot.held().is_none());
    }
}
