//! Waits for a reading, says what it waits for, and gives up on one that does not end.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::pipeline::Course;

/// After so long a reading is spoken of, and then after twice as long each time.
const SAY_AFTER: Duration = Duration::from_secs(30);

/// What a reading may take after its deadline to come to its end: a graph is interrupted between two operators.
const GRACE: Duration = Duration::from_secs(30);

/// How a reading ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Watched<T> {
    /// As it should.
    Ended(T),
    /// By a defect.
    Panicked,
    /// Not at all.
    Stuck,
}

/// Waits for a reading that runs on a thread of its own.
pub(super) async fn until_it_ends<T>(reading: JoinHandle<T>, course: &Course) -> Watched<T> {
    watch(reading, course, SAY_AFTER, GRACE).await
}

async fn watch<T>(mut reading: JoinHandle<T>, course: &Course, say_after: Duration, grace: Duration) -> Watched<T> {
    let (began, give_up) = (Instant::now(), course.until() + grace);
    let mut say_at = began + say_after;
    loop {
        tokio::select! {
            ended = &mut reading => return ended.map_or(Watched::Panicked, Watched::Ended),
            () = tokio::time::sleep_until(say_at.min(give_up).into()) => {}
        }
        let (study, seconds) = (course.study, began.elapsed().as_secs());
        if Instant::now() >= give_up {
            tracing::error!(
                study,
                "the reading did not end {} s after its deadline; it waits {}",
                grace.as_secs(),
                course.waits()
            );
            return Watched::Stuck;
        }
        tracing::warn!(study, "the study has been read for {seconds} s; it waits {}", course.waits());
        say_at = began + began.elapsed() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reading_ends_or_is_given_up() {
        async fn check(reading: JoinHandle<u8>, deadline: Duration, expected: Watched<u8>) {
            let course = Course::new(None, deadline);
            assert_eq!(watch(reading, &course, Duration::from_millis(5), Duration::from_millis(20)).await, expected);
        }
        let long = Duration::from_secs(60);
        check(tokio::spawn(async { 1 }), long, Watched::Ended(1)).await;
        check(tokio::spawn(async { panic!("a defect") }), long, Watched::Panicked).await;
        check(tokio::spawn(std::future::pending()), Duration::from_millis(20), Watched::Stuck).await;
    }
}
