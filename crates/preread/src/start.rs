//! What the daemon needs before it serves: descriptors enough, and its spool. While there is no room for the spool to
//! recover, it refuses instead of ending: who sends is told to try again later, and health says why.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use dimse::{
    AssociationInfo, CommitmentRequest, Deadlines, IncomingInstance, InstanceInfo, Refusal, Server, ServerConfig, Sink,
};
use spool::{Recovery, Spool};
use tokio_util::sync::CancellationToken;

use crate::{admin, clock, config::Config, serve};

/// Files that are open besides connections: journal, state database, admin port, models, libraries.
const OTHER_FILES: u64 = 200;
/// Losses that are named in the log; `preread doctor` names all.
const NAMED: usize = 20;

/// How often it is looked whether something changed that may make room.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Looks after which opening the spool is tried again though nothing did.
const TRY_ANYWAY: u32 = 30;

/// Sees to it that all the connections that the server may have can be open at a time. Errors with what to change where
/// they cannot.
pub(crate) fn require_descriptors(server: &ServerConfig) -> Result<()> {
    let wanted = u64::try_from(server.most_connections()).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    if let Err(limit) = spool::allow_open_files(wanted) {
        bail!(
            "{limit} files may be open at a time, and {} associations (listen.max_associations), with the connections that \
             are none yet, need {wanted}: raise LimitNOFILE in the unit (ulimit -n), or lower listen.max_associations",
            server.max_associations
        );
    }
    Ok(())
}

/// Opens the spool. While its file system is full, refuses what comes, on the port of `server`, until there is room or the
/// daemon is told to stop; nothing in that case.
pub(crate) async fn open_spool(config: &Config, server: impl Fn() -> ServerConfig) -> Result<Option<Spool>> {
    let full = match try_to_open(config).await? {
        Ok(spool) => return Ok(Some(spool)),
        Err(full) => full,
    };
    tracing::error!(error = %full, "there is no room for the spool to recover: nothing is received until there is");
    let stop = CancellationToken::new();
    let deadlines = Deadlines { stop: Duration::from_secs(2), ..Deadlines::default() };
    let server = Server::bind(ServerConfig { deadlines, ..server() }).await?;
    let admin = admin::bind(config.admin.as_ref()).await?;
    let refusing = tokio::spawn(server.serve(Arc::new(NoRoom), stop.clone()));
    let admin = async {
        match admin {
            Some(listener) => admin::serve_refusal(listener, full.to_string(), stop.clone()).await,
            None => Ok(()),
        }
    };
    serve::notify_systemd(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status("no room: refusing")]);
    let waited = async {
        let opened = tokio::select! {
            opened = until_room(config) => opened.map(Some),
            signal = serve::stop_signal() => {
                tracing::info!(signal, "stopping");
                Ok(None)
            }
        };
        stop.cancel();
        opened
    };
    let (opened, _, admin) = tokio::join!(waited, refusing, admin);
    if let Err(error) = admin {
        tracing::error!(%error, "the admin port stopped answering");
    }
    let status = if matches!(opened, Ok(Some(_))) { "there is room again" } else { "stopping" };
    tracing::info!("{status}");
    serve::notify_systemd(&[sd_notify::NotifyState::Status(status)]);
    opened
}

/// Tries to open the spool each time that there is more room than before, and now and then.
async fn until_room(config: &Config) -> Result<Spool> {
    let room = || Spool::free(&config.spool.dir).ok();
    let (mut before, mut looks) = (room(), 0);
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        looks += 1;
        let now = room();
        if now == before && looks % TRY_ANYWAY != 0 {
            continue;
        }
        before = now;
        if let Ok(spool) = try_to_open(config).await? {
            return Ok(spool);
        }
    }
}

/// The spool, or the error of a full disk.
async fn try_to_open(config: &Config) -> Result<Result<Spool, spool::Error>> {
    let (dir, options) = (config.spool.dir.clone(), config.spool.options(config.study.patience()));
    let opened = tokio::task::spawn_blocking(move || Spool::open(&dir, options, clock::now())).await?;
    match opened {
        Ok((spool, recovery)) => {
            say(&recovery);
            Ok(Ok(spool))
        }
        Err(error) if error.is_full_disk() => Ok(Err(error)),
        Err(error) => {
            let dir = config.spool.dir.display();
            let context = match what_to_change(&error) {
                Some(what) => format!("spool.dir = {dir}: {what}"),
                None => format!("spool.dir = {dir}"),
            };
            Err(error).context(context)
        }
    }
}

/// What a person changes where the system does not let the daemon write its spool.
fn what_to_change(error: &spool::Error) -> Option<String> {
    if error.is_read_only() {
        let what = "the folder is read-only for preread: mount it to be written, and name it in ReadWritePaths= of the unit, \
                    which makes all others read-only (docs/SERVICE.md, spool-elsewhere.conf)";
        return Some(what.to_owned());
    }
    error.is_denied().then(|| {
        format!(
            "preread runs as user {}, who may not write there: give the folder to the user of the unit (User=, `chown -R \
             preread:preread`), mode 0700, and let that user through all folders above it (docs/SERVICE.md)",
            spool::own_user()
        )
    })
}

fn say(recovery: &Recovery) {
    tracing::info!(
        orphans = recovery.orphans,
        restored = recovery.restored,
        unfinished = recovery.unfinished,
        readings = recovery.readings,
        "spool open and recovered"
    );
    for death in &recovery.deaths {
        let (study, deaths) = (death.study, death.deaths);
        if death.held {
            tracing::error!(study, deaths, "preread ended while it read this study; the study is held");
        } else {
            tracing::error!(study, deaths, "preread ended while it read this study; it is read again after all others");
        }
    }
    for death in &recovery.deaths_of_comparisons {
        let (study, deaths) = (death.study, death.deaths);
        let next =
            if death.held { "a person has to say which counts" } else { "they are compared again after all others" };
        tracing::error!(
            study,
            deaths,
            "preread ended while it compared two data sets under one UID of this study; {next}"
        );
    }
    for path in &recovery.missing {
        tracing::error!(path, "a file of the spool is gone; its study is held");
    }
    for lost in recovery.lost.iter().take(NAMED) {
        tracing::error!(study = lost.study_instance_uid, instance = lost.sop_instance_uid, "lost: {}", lost.what);
    }
    if !recovery.lost.is_empty() {
        tracing::error!(
            lost = recovery.lost.len(),
            "{} acknowledged instances are gone, as far as is known: `preread doctor` names them; have them sent again, \
             then run `preread doctor --confirm-loss`",
            recovery.lost.iter().filter(|lost| lost.sop_instance_uid.is_some()).count()
        );
    }
    if recovery.kept_orphans > 0 {
        let files = recovery.kept_orphans;
        tracing::warn!(
            files,
            "files in instances/ and reports/ that nothing speaks of are kept until the loss is confirmed"
        );
    }
    if let Some(behind) = recovery.clock_behind {
        tracing::warn!(
            by = clock::span_in_words(behind),
            "the clock is behind the last instance that came: see to the time service; no study waits for it"
        );
    }
    if recovery.is_checked_later {
        tracing::info!("the state database is large: the rest of it is checked while preread runs");
    }
}

/// Refuses everything but associations, C-ECHO and releases.
struct NoRoom;

/// An instance that is not taken; there is none.
enum Never {}

impl Sink for NoRoom {
    type Instance = Never;

    fn association_opened(&self, _: &Arc<AssociationInfo>) {}

    fn association_closed(&self, _: &Arc<AssociationInfo>) {}

    async fn releasing(&self, _: &Arc<AssociationInfo>) -> Result<(), Refusal> {
        Ok(())
    }

    async fn begin(&self, _: InstanceInfo) -> Result<Never, Refusal> {
        Err(Refusal::OutOfResources)
    }

    async fn request_commitment(&self, _: CommitmentRequest) -> Result<(), Refusal> {
        Err(Refusal::OutOfResources)
    }
}

impl IncomingInstance for Never {
    async fn write(&mut self, _: &[u8]) -> Result<(), Refusal> {
        match *self {}
    }

    async fn commit(self) -> Result<(), Refusal> {
        match self {}
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_spool_that_may_not_be_written_says_what_to_change() {
        let check = |errno: i32, expected: Option<&str>| {
            let error = spool::Error::Io { path: "/spool".into(), source: io::Error::from_raw_os_error(errno) };
            let found = what_to_change(&error);
            assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
            assert!(found.zip(expected).is_none_or(|(found, part)| found.contains(part)), "{errno}");
        };
        check(30, Some("ReadWritePaths="));
        check(13, Some("runs as user "));
        check(5, None);
    }
}
