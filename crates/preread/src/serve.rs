//! The daemon: a receiver, a reader and an outbox around one spool.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Result;
use dataset::{Limits, Uid};
use dimse::{Server, ServerConfig, Tls, TlsListener};
use spool::Spool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    admin, clock,
    commitment::Commitments,
    config::{Config, DestinationSection, TlsSection},
    deliver,
    models::Models,
    pipeline::{Asked, DeviceIdentity, Pipeline, Wanted},
    reader::Reader,
    receive::Receiver,
    reload::Reload,
    retain, start,
    tasks::Tasks,
    trust::Trusts,
};

/// Runs the daemon until it is told to stop, or must.
pub(crate) fn run(config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(config));
    // A reading that is in the middle of a graph is not waited for: its study is read again after the next start.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

async fn serve(mut config: Config) -> Result<()> {
    let tls = config.tls.as_ref().map(TlsSection::load).transpose()?;
    let reload = Reload::new(tls.clone())?;
    // A folder that is not there, or a rule that asks too much of its model, is found before a spool is made for it.
    let models = Models::open(&config.models, &config.runtime)?;
    let trusts = Trusts::of(&config.rules, &models)?;
    start::require_descriptors(&server_config(&config, tls.as_ref()))?;
    let Some(spool) = start::open_spool(&config, || server_config(&config, tls.as_ref())).await? else { return Ok(()) };
    let pipeline = Arc::new(pipeline(&mut config, &spool, models, trusts)?);
    let server = Server::bind(server_config(&config, tls.as_ref())).await?;
    let admin = admin::bind(config.admin.as_ref()).await?;
    let stop = CancellationToken::new();
    let written = Arc::new(Notify::new());
    let commitments = Arc::new(Commitments::new(spool.clone(), &config, tls.as_ref()));
    let receiver = Arc::new(Receiver {
        spool: spool.clone(),
        pipeline: Arc::clone(&pipeline),
        commitments: Arc::clone(&commitments),
        quiet_of_peer: config.peers.iter().filter_map(|peer| Some((peer.name.clone(), peer.quiet_period?))).collect(),
        quiet_period: config.study.quiet_period,
    });
    let destination = |section: &DestinationSection| section.destination(&config.listen, tls.as_ref());
    let destinations: HashMap<_, _> =
        config.destinations.iter().map(|section| (section.name.clone(), destination(section))).collect();
    let reader = Reader::new(spool.clone(), Arc::clone(&pipeline), &config, Arc::clone(&written));

    let mut tasks = Tasks::default();
    tasks.spawn("the receiver", server.serve(receiver, stop.clone()));
    tasks.spawn("the outbox", deliver::run(spool.clone(), destinations, pipeline, written, stop.clone()));
    tasks.spawn_abandoned(READER, reader.run(stop.clone()));
    tasks.spawn_abandoned("storage commitment", commitments.run(stop.clone()));
    tasks.spawn_abandoned("retention", retain::run(spool.clone(), config.retention.retention(), stop.clone()));
    tasks.spawn_abandoned("the task that reads certificates again", reload.run(stop.clone()));
    tasks.spawn_abandoned("the clock", clock::watch(spool.clone(), stop.clone()));
    if let Some(listener) = admin {
        tasks.spawn("the admin port", admin::serve(listener, spool.clone(), stop.clone()));
    }
    notify_systemd(&[sd_notify::NotifyState::Ready]);
    tracing::info!("ready");

    let (outcome, is_reader) = tokio::select! {
        signal = stop_signal() => {
            tracing::info!(signal, "stopping");
            (Ok(()), false)
        }
        reason = spool.failed() => {
            (Err(anyhow::anyhow!("the spool failed, and a restart must recover it: {reason}")), false)
        }
        (name, error) = tasks.ended() => {
            (Err(error.context(format!("{name} failed, which a restart may mend"))), name == READER)
        }
    };
    notify_systemd(&[sd_notify::NotifyState::Stopping]);
    stop.cancel();
    if !is_reader {
        // What is being read is not why preread ends. After a failed write nothing can be said, and it counts.
        let _ = spool.forget_attempts().await;
    }
    // Each has its own deadline for stopping; this one is for a defect in those.
    tasks.stopped(Duration::from_secs(60)).await;
    // So that `preread queue` shows everything; without it the next start does it.
    if outcome.is_ok()
        && let Err(error) = spool.close().await
    {
        tracing::warn!(%error, "the spool could not be closed in order; the next start recovers it");
    }
    outcome
}

/// The task whose fault what is being read may be.
const READER: &str = "the reader";

fn pipeline(config: &mut Config, spool: &Spool, models: Models, trusts: Trusts) -> Result<Pipeline> {
    let uid = match &config.device.uid {
        Some(uid) => uid.clone(),
        None => Uid::derive(&[b"preread device", spool.installation()?.as_bytes()]),
    };
    Ok(Pipeline {
        trusts,
        rules: std::mem::take(&mut config.rules),
        models,
        limits: Limits::default(),
        deadline: config.study.deadline,
        device: DeviceIdentity {
            uid,
            serial_number: config.device.serial_number.clone(),
            udi: config.device.udi.clone(),
        },
        wanted: Wanted::by(&config.destinations),
        asked: Asked::default(),
    })
}

fn server_config(config: &Config, tls: Option<&Tls>) -> ServerConfig {
    let listener = |(address, tls): (_, &Tls)| TlsListener { address, tls: tls.clone() };
    ServerConfig {
        address: config.listen.address,
        tls: config.listen.tls_address.zip(tls).map(listener),
        peers: config.peers.iter().map(crate::config::PeerSection::peer).collect(),
        max_associations: config.listen.max_associations,
        private_sop_classes: config.listen.private_sop_classes.clone(),
        ..ServerConfig::new(config.listen.ae_title.clone())
    }
}

pub(crate) async fn stop_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = wait(SignalKind::terminate()) => "SIGTERM",
        _ = wait(SignalKind::interrupt()) => "SIGINT",
    }
}

pub(crate) fn notify_systemd(state: &[sd_notify::NotifyState<'_>]) {
    // Without a NOTIFY_SOCKET this does nothing, which is right.
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
