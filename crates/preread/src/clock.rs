//! The one place that asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use report::ContentTime;

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

/// The local date and time of a moment, which is what DICOM's DA and TM mean (PS3.5 6.2).
pub(crate) fn content_time(at: spool::Timestamp) -> ContentTime {
    let local = jiff::Timestamp::from_millisecond(at).map(|at| at.to_zoned(TimeZone::system()));
    let written = local.ok().and_then(|local| local.strftime("%Y%m%d%H%M%S").to_string().parse().ok());
    written.unwrap_or_else(|| ContentTime::from_unix_utc(u64::try_from(at / 1000).unwrap_or(0)))
}
