//! The one place that asks what time it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use report::ContentTime;
use spool::Spool;
use tokio_util::sync::CancellationToken;

/// As the system counts, for the periods of certificates.
pub(crate) fn system_time() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since 1970 UTC, as the spool counts.
pub(crate) fn now() -> spool::Timestamp {
    let since = system_time().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The local time of a moment, as a person reads it: with the date where that is not today's.
pub(crate) fn time_of_day(at: spool::Timestamp) -> String {
    let local = |at| jiff::Timestamp::from_millisecond(at).map(|at| at.to_zoned(TimeZone::system())).ok();
    let (Some(then), Some(today)) = (local(at), local(now())) else { return at.to_string() };
    let form = if then.date() == today.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    then.strftime(form).to_string()
}

/// A moment in words, to the minute, in UTC.
pub(crate) fn in_words(at: spool::Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at).unwrap_or_default();
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// A span of milliseconds as a person reads it, in its largest unit of which it has two.
pub(crate) fn span_in_words(milliseconds: i64) -> String {
    let seconds = milliseconds / 1000;
    let units = [(86_400, "days"), (3600, "h"), (60, "min")];
    match units.into_iter().find(|(length, _)| seconds.abs() >= 2 * length) {
        Some((length, name)) => format!("{} {name}", seconds / length),
        None => format!("{seconds} s"),
    }
}

/// The local date and time of a moment, which is what DICOM's DA and TM mean (PS3.5 6.2).
pub(crate) fn content_time(at: spool::Timestamp) -> ContentTime {
    let local = jiff::Timestamp::from_millisecond(at).map(|at| at.to_zoned(TimeZone::system()));
    let written = local.ok().and_then(|local| local.strftime("%Y%m%d%H%M%S").to_string().parse().ok());
    written.unwrap_or_else(|| ContentTime::from_unix_utc(u64::try_from(at / 1000).unwrap_or(0)))
}

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// A clock that goes back by less is being adjusted, and nothing waits for longer because of it.
const ADJUSTED_MS: i64 = 2_000;

/// Sees when the clock goes back, and brings back with it what was due, until told to stop.
pub(crate) async fn watch(spool: Spool, stop: CancellationToken) {
    let mut seen = (Instant::now(), now());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let looked = (Instant::now(), now());
        let back = went_back(seen, looked);
        seen = looked;
        let Some(back) = back else { continue };
        tracing::warn!(
            by = span_in_words(back),
            "the clock went back: see to the time service; what was due then is due now, or after its quiet period"
        );
        if let Err(error) = spool.clock_went_back(looked.1).await {
            tracing::error!(%error, "what is due could not be brought back with the clock");
        }
    }
}

/// By how many milliseconds the clock went back from one look to the next, if it did.
fn went_back((then, said_then): (Instant, spool::Timestamp), (now, says): (Instant, spool::Timestamp)) -> Option<i64> {
    let passed = i64::try_from(now.duration_since(then).as_millis()).unwrap_or(i64::MAX);
    let back = said_then.saturating_add(passed).saturating_sub(says);
    (back > ADJUSTED_MS).then_some(back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_for_a_person() {
        for (milliseconds, expected) in
            [(999, "0 s"), (119_000, "119 s"), (120_000, "2 min"), (7_200_000, "2 h"), (34_559_838_000, "399 days")]
        {
            assert_eq!(span_in_words(milliseconds), expected);
        }
    }

    #[test]
    fn only_a_clock_that_goes_back_is_said_to() {
        let then = Instant::now();
        let check = |passed: u64, said: i64, expected: Option<i64>| {
            let now = then + Duration::from_millis(passed);
            assert_eq!(went_back((then, 1_000_000), (now, said)), expected, "{passed} ms, {said}");
        };
        check(1_000, 1_001_000, None);
        check(1_000, 1_000_000, None);
        check(1_000, 87_401_000, None);
        check(1_000, 998_000, Some(3_000));
        check(60_000, 1_001_000, Some(59_000));
    }
}
