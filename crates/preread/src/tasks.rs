//! The daemon's tasks: each has a name, and none ends unseen.

use std::{collections::HashMap, fmt::Display, future::Future, time::Duration};

use anyhow::{Result, anyhow};
use tokio::task::{Id, JoinError, JoinSet};

/// Tasks that run until they are told to stop. One that ends earlier, or panics, is a fault that ends the daemon: what it
/// did would silently not be done any more, and a restart does it again.
#[derive(Default)]
pub(crate) struct Tasks {
    running: JoinSet<Result<()>>,
    names: HashMap<Id, Task>,
}

struct Task {
    name: &'static str,
    /// Whether the daemon waits for it when it stops.
    waited_for: bool,
}

/// What a task answers when it ends.
pub(crate) trait Outcome {
    /// The error with which it ended, if it was one.
    fn outcome(self) -> Result<()>;
}

impl Outcome for () {
    fn outcome(self) -> Result<()> {
        Ok(())
    }
}

impl<E: Into<anyhow::Error>> Outcome for Result<(), E> {
    fn outcome(self) -> Result<()> {
        self.map_err(Into::into)
    }
}

impl Tasks {
    /// Starts a task. At a stop it is waited for.
    pub(crate) fn spawn<T: Outcome>(&mut self, name: &'static str, task: impl Future<Output = T> + Send + 'static) {
        self.add(name, true, task);
    }

    /// Starts a task that is not waited for at a stop: what it is in the middle of is done again after the next start.
    pub(crate) fn spawn_abandoned<T: Outcome>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        self.add(name, false, task);
    }

    fn add<T: Outcome>(
        &mut self,
        name: &'static str,
        waited_for: bool,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        let handle = self.running.spawn(async move { task.await.outcome() });
        self.names.insert(handle.id(), Task { name, waited_for });
    }

    /// Waits until a task ends, which none should: the name of the first that does, and why.
    pub(crate) async fn ended(&mut self) -> (&'static str, anyhow::Error) {
        match self.running.join_next_with_id().await {
            None => std::future::pending().await,
            Some(Ok((id, Ok(())))) => (self.forget(id), anyhow!("it ended by itself")),
            Some(Ok((id, Err(error)))) => (self.forget(id), error),
            // A panic may quote what a peer sent; its place is in the log.
            Some(Err(error)) => (self.forget(error.id()), anyhow!("{}", of_panic(&error))),
        }
    }

    fn forget(&mut self, id: Id) -> &'static str {
        self.names.remove(&id).map_or("a task", |task| task.name)
    }

    /// Waits for the tasks that were told to stop; what is left after `limit` is a defect of that task, and is named.
    pub(crate) async fn stopped(mut self, limit: Duration) {
        let all = async {
            while self.names.values().any(|task| task.waited_for) {
                match self.running.join_next_with_id().await {
                    Some(Ok((id, outcome))) => said(self.forget(id), outcome.err()),
                    Some(Err(error)) => said(self.forget(error.id()), Some(of_panic(&error))),
                    None => return,
                }
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            let late = self.names.values().filter(|task| task.waited_for);
            late.for_each(|task| tracing::error!("{} did not stop within {} s", task.name, limit.as_secs()));
        }
    }
}

fn of_panic(error: &JoinError) -> &'static str {
    if error.is_panic() { "a defect in preread stopped it; the log has its place" } else { "it was cancelled" }
}

fn said(name: &str, error: Option<impl Display>) {
    if let Some(error) = error {
        tracing::error!(%error, "{name} failed while it stopped");
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn no_task_ends_unseen() {
        async fn check<T: Outcome>(task: impl Future<Output = T> + Send + 'static, expected: &str) {
            let mut tasks = Tasks::default();
            tasks.spawn("the good one", std::future::pending::<()>());
            tasks.spawn("the bad one", task);
            let (name, error) = tasks.ended().await;
            assert_eq!(name, "the bad one");
            assert!(error.to_string().contains(expected), "{error}");
        }
        check(async {}, "by itself").await;
        check(async { Ok::<_, anyhow::Error>(()) }, "by itself").await;
        check(async { Err::<(), _>(anyhow!("no disk")) }, "no disk").await;
        check(async { assert!(std::hint::black_box(false), "what a peer sent") }, "a defect in preread").await;
    }

    #[tokio::test]
    async fn a_stop_waits_for_what_ends_and_for_nothing_else() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::default();
        let stopping = stop.clone();
        tasks.spawn("ends", async move { stopping.cancelled().await });
        tasks.spawn_abandoned("reads", std::future::pending::<()>());
        stop.cancel();
        tasks.stopped(Duration::from_secs(60)).await;

        let mut tasks = Tasks::default();
        tasks.spawn("hangs", std::future::pending::<()>());
        tasks.stopped(Duration::from_millis(10)).await;
    }
}
