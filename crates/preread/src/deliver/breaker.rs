//! When a destination is tried again: soon at first, ever more slowly, and never all at the same moment.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use spool::Timestamp;

/// What failed is tried again after this, half as long again each time, up to the most.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const MOST_WAIT: Duration = Duration::from_secs(120);
/// Attempts that failed one after the other, after which the destination as a whole is taken to be in trouble.
const TROUBLES: u32 = 3;
/// How often it is said that a destination is still away.
const SAY_AGAIN: i64 = 60 * 60 * 1000;

/// How long to wait after so many failures. Spread by up to a quarter by what `of` says, so that what failed together does
/// not come back together.
pub(super) fn wait_after(failures: i64, of: &impl Hash) -> Duration {
    let times = i32::try_from(failures.clamp(1, 32)).unwrap_or(32) - 1;
    let wait = FIRST_WAIT.mul_f64(1.5_f64.powi(times)).min(MOST_WAIT);
    let mut hasher = DefaultHasher::new();
    (of, failures).hash(&mut hasher);
    let spread = f64::from(u8::try_from(hasher.finish() % 256).unwrap_or(0)) / 1024.0;
    wait.mul_f64(1.0 + spread)
}

/// What is known of a destination's health, between one attempt and the next.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// How often it was found away, one time after the other.
    opened: i64,
    /// Attempts that failed since the last success.
    troubles: u32,
    /// Since when nothing arrives there.
    since: Option<Timestamp>,
    /// When that was said last.
    said_at: Option<Timestamp>,
    until: Timestamp,
    error: String,
}

impl Breaker {
    /// Until when nothing is tried there but what a person asks for, and why.
    pub(super) fn closed_until(&self) -> (Timestamp, &str) {
        (self.until, &self.error)
    }

    /// The destination cannot be reached.
    pub(super) fn away(&mut self, name: &str, error: &str, now: Timestamp) {
        self.opened += 1;
        self.since.get_or_insert(now);
        let wait = i64::try_from(wait_after(self.opened, &name).as_millis()).unwrap_or(i64::MAX);
        self.until = now.saturating_add(wait);
        error.clone_into(&mut self.error);
    }

    /// It can be reached, and an attempt failed. Whether it is left alone for a while.
    pub(super) fn trouble(&mut self, name: &str, error: &str, now: Timestamp) -> bool {
        self.troubles = self.troubles.saturating_add(1);
        if self.troubles < TROUBLES {
            return false;
        }
        self.away(name, error, now);
        true
    }

    /// It took something. Since when it had taken nothing, where that was worth a word.
    pub(super) fn works(&mut self) -> Option<Timestamp> {
        let said = self.said_at.is_some();
        let before = std::mem::take(self);
        before.since.filter(|_| said)
    }

    /// Whether it should be said that it is away: at first, and each hour.
    pub(super) fn should_say(&mut self, now: Timestamp) -> bool {
        let due = self.said_at.is_none_or(|at| now.saturating_sub(at) >= SAY_AGAIN);
        if due {
            self.said_at = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_are_spread_and_have_a_bound() {
        for failures in 1..=100 {
            let exact = (2.0 * 1.5_f64.powf(failures as f64 - 1.0)).min(120.0);
            for name in ["pacs", "archive", "ris"] {
                let wait = wait_after(failures, &name).as_secs_f64();
                assert!(wait >= exact - 0.001 && wait <= exact * 1.25 + 0.001, "{failures} {wait}");
            }
        }
        let waits: std::collections::BTreeSet<_> = (0..32_i64).map(|id| wait_after(9, &id)).collect();
        assert!(waits.len() > 16, "{waits:?}");
        // After an outage of a minute the next try is never further away than half of it.
        let (mut at, mut last) = (0.0, 0.0);
        for failures in 1.. {
            last = wait_after(failures, &"pacs").as_secs_f64();
            at += last;
            if at > 60.0 {
                break;
            }
        }
        assert!(last < 35.0, "{last}");
    }

    #[test]
    fn a_destination_is_left_alone_after_three_failures_and_at_once_when_it_is_away() {
        let mut breaker = Breaker::default();
        assert!(!breaker.trouble("pacs", "busy", 10) && !breaker.trouble("pacs", "busy", 20));
        assert_eq!(breaker.closed_until().0, 0);
        assert!(breaker.trouble("pacs", "busy", 30));
        let (until, why) = breaker.closed_until();
        assert!((2_030..=2_530).contains(&until) && why == "busy", "{until}");
        breaker.away("pacs", "refused", until);
        assert!(breaker.closed_until().0 >= until + 3_000, "it waits longer");
        assert!(breaker.should_say(0) && !breaker.should_say(SAY_AGAIN - 1) && breaker.should_say(SAY_AGAIN));
        assert_eq!(breaker.works(), Some(30));
        assert_eq!((breaker.closed_until().0, breaker.works()), (0, None));
    }
}
