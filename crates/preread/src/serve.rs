//! The daemon: a receiver, a reader and an outbox around one spool.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use dataset::{Limits, Uid};
use dimse::{Server, ServerConfig};
use report::EvidenceItem;
use spool::{Claim, ObjectKind, ReportFile, Spool, StudyState};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    admin, clock,
    config::{Config, Mode, ObjectName},
    deliver,
    models::Models,
    pipeline::{DeviceIdentity, End, Pipeline, Reading, Study, StudyInstance},
    receive::Receiver,
};

/// How long at the most until the spool is looked at again, for what another process changed (`preread queue retry`).
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Runs the daemon until it is told to stop, or must.
pub(crate) fn run(config: Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(config));
    // A reading that is in the middle of a graph is not waited for: its study is read again after the next start.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome
}

async fn serve(mut config: Config) -> Result<()> {
    let spool = open_spool(&config)?;
    let pipeline = Arc::new(pipeline(&mut config, &spool)?);
    for model in config.models.iter().filter(|model| model.preload) {
        let pipeline = Arc::clone(&pipeline);
        let name = model.name.clone();
        tokio::task::spawn_blocking(move || pipeline.models.dispatcher(&name)).await??;
    }
    let server = Server::bind(server_config(&config)).await?;
    let admin = admin::bind(config.admin.as_ref()).await?;
    let stop = CancellationToken::new();
    let (arrived, written, delivered) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let receiver = Arc::new(Receiver {
        spool: spool.clone(),
        pipeline: Arc::clone(&pipeline),
        limits: Limits::default(),
        quiet_of_peer: config.peers.iter().filter_map(|peer| Some((peer.name.clone(), peer.quiet_period?))).collect(),
        quiet_period: config.study.quiet_period,
        arrived: Arc::clone(&arrived),
    });
    let destinations: HashMap<_, _> = config
        .destinations
        .iter()
        .map(|section| (section.name.clone(), section.destination(&config.listen)))
        .collect();
    let sends = Arc::new(Sends::of(&config));

    let mut receiving = tokio::spawn(server.serve(receiver, stop.clone()));
    let mut reading = tokio::spawn(read_studies(spool.clone(), pipeline, sends, arrived, Arc::clone(&written), stop.clone()));
    let mut delivering = tokio::spawn(deliver::run(spool.clone(), destinations, written, delivered, stop.clone()));
    let admin = tokio::spawn(admin::serve(admin, spool.clone(), stop.clone()));
    notify_systemd(&[sd_notify::NotifyState::Ready]);
    tracing::info!("ready");

    let outcome = tokio::select! {
        signal = stop_signal() => {
            tracing::info!(signal, "stopping");
            Ok(())
        }
        reason = spool.failed() => Err(anyhow::anyhow!("the spool failed, and a restart must recover it: {reason}")),
        ended = &mut receiving => Err(anyhow::anyhow!("the receiver ended by itself: {ended:?}")),
        ended = &mut reading => Err(anyhow::anyhow!("the reader ended by itself: {ended:?}")),
        ended = &mut delivering => Err(anyhow::anyhow!("the outbox ended by itself: {ended:?}")),
    };
    notify_systemd(&[sd_notify::NotifyState::Stopping]);
    stop.cancel();
    // Each has its own deadline for stopping; this one is for a defect in those.
    let all = async {
        for task in [receiving, admin] {
            if !task.is_finished() {
                let _ = task.await;
            }
        }
        if !delivering.is_finished() {
            let _ = delivering.await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(60), all).await;
    outcome
}

fn open_spool(config: &Config) -> Result<Spool> {
    let options = spool::Options { durability: config.spool.durability, reserve_bytes: config.spool.reserve };
    let (spool, recovery) = Spool::open(&config.spool.dir, options, clock::now())
        .with_context(|| format!("spool.dir = {}", config.spool.dir.display()))?;
    tracing::info!(
        abandoned = recovery.abandoned,
        orphans = recovery.orphans,
        readings = recovery.readings,
        "spool open and recovered"
    );
    for path in &recovery.missing {
        tracing::error!(path, "a file of the spool is gone; its study is held");
    }
    Ok(spool)
}

fn pipeline(config: &mut Config, spool: &Spool) -> Result<Pipeline> {
    let folders = config.models.iter().map(|model| (model.name.as_str(), model.path.as_path()));
    let models = Models::open(folders, config.runtime.library.as_deref(), config.runtime.threads)?;
    for section in &config.destinations {
        for object in section.objects.iter().filter(|object| !object.is_written()) {
            tracing::warn!(destination = section.name, ?object, "this version does not write that object yet");
        }
    }
    let uid = match &config.device.uid {
        Some(uid) => uid.clone(),
        None => Uid::derive(&[b"preread device", spool.installation()?.as_bytes()]),
    };
    Ok(Pipeline {
        rules: std::mem::take(&mut config.rules),
        models,
        limits: Limits::default(),
        deadline: config.study.deadline,
        device: DeviceIdentity { uid, serial_number: config.device.serial_number.clone() },
    })
}

fn server_config(config: &Config) -> ServerConfig {
    ServerConfig {
        peers: config.peers.iter().map(crate::config::PeerSection::peer).collect(),
        max_associations: config.listen.max_associations,
        ..ServerConfig::new(config.listen.address, config.listen.ae_title.clone())
    }
}

/// Which destinations take which object.
struct Sends {
    text_sr: Vec<String>,
}

impl Sends {
    fn of(config: &Config) -> Self {
        let takes = |object| {
            let takers = config.destinations.iter().filter(move |section| section.objects.contains(&object));
            takers.map(|section| section.name.clone()).collect()
        };
        Self { text_sr: takes(ObjectName::TextSr) }
    }
}

/// Settles what is due and reads it, one study at a time: the model takes every core that it may.
async fn read_studies(
    spool: Spool,
    pipeline: Arc<Pipeline>,
    sends: Arc<Sends>,
    arrived: Arc<Notify>,
    written: Arc<Notify>,
    stop: CancellationToken,
) -> Result<()> {
    while !stop.is_cancelled() {
        spool.settle(clock::now()).await?;
        if let Some(claim) = spool.claim().await? {
            let span = tracing::info_span!("study", study = claim.study);
            read_study(&spool, &pipeline, &sends, claim).instrument(span).await?;
            written.notify_one();
            continue;
        }
        let until_due = spool.next_due()?.map_or(i64::MAX, |due| due.saturating_sub(clock::now()));
        // What is due and did not settle has an open association, whose end wakes us.
        let wait = match u64::try_from(until_due) {
            Ok(milliseconds) if milliseconds > 0 => Duration::from_millis(milliseconds).min(LOOK_AGAIN),
            _ => LOOK_AGAIN,
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = arrived.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    Ok(())
}

async fn read_study(spool: &Spool, pipeline: &Arc<Pipeline>, sends: &Arc<Sends>, claim: Claim) -> Result<()> {
    let began = clock::now();
    let study = study(spool, &claim, began)?;
    let (version, for_reading, sends) = (study.version, Arc::clone(pipeline), Arc::clone(sends));
    let outcome = tokio::task::spawn_blocking(move || {
        let reading = for_reading.read(&study)?;
        Ok::<_, End>(Kept::of(reading, &sends))
    })
    .await;
    let outcome = outcome.unwrap_or_else(|_| {
        let reason = "a defect in preread stopped the reading; the log has its place".to_owned();
        Err(End::Held { what: "a defect stopped the reading", reason, rule: None })
    });
    let is_last = match outcome {
        Ok(Kept { inputs_digest, rule, files, timings }) => {
            let kept = spool.written(&claim, i64::from(version), inputs_digest, rule, files, clock::now()).await?;
            tracing::info!(version, ?timings, elapsed_ms = clock::now() - began, "report written");
            kept
        }
        Err(End::Held { what, reason, rule }) => {
            tracing::warn!(reason = what, "study held; `preread queue show` says why");
            spool.end(&claim, StudyState::Held, reason, rule).await?
        }
        Err(End::Skipped { reason }) => {
            tracing::info!(reason, "study skipped");
            spool.end(&claim, StudyState::Skipped, reason, None).await?
        }
        Err(End::Unchanged) => {
            tracing::info!("nothing new to read: the report stands");
            spool.unchanged(&claim).await?
        }
        Err(End::Stopped) => spool.release(&claim).await?,
    };
    if !is_last {
        tracing::info!("instances came while the study was read: it is read again when they are all there");
    }
    Ok(())
}

fn study(spool: &Spool, claim: &Claim, now: spool::Timestamp) -> Result<Study> {
    let lineage = spool.lineage(claim.study)?;
    let predecessor = lineage.predecessor.map(|it| -> Result<EvidenceItem, dataset::UidError> {
        Ok(EvidenceItem {
            sop_class_uid: it.sop_class_uid.parse()?,
            sop_instance_uid: it.sop_instance_uid.parse()?,
            series_instance_uid: it.series_instance_uid.parse()?,
            sha256: String::new(),
        })
    });
    let instance = |instance: &spool::InstanceView| StudyInstance {
        path: instance.path.clone(),
        source: instance.source.clone(),
        sha256: instance.data_set_sha256.clone(),
    };
    Ok(Study {
        instances: claim.instances.iter().map(instance).collect(),
        version: u32::try_from(lineage.next_version)?,
        reported_inputs: lineage.inputs_digest,
        predecessor: predecessor.transpose()?,
        content_time: clock::content_time(now),
    })
}

/// A reading as the spool keeps it.
struct Kept {
    inputs_digest: String,
    rule: String,
    files: Vec<ReportFile>,
    timings: Vec<(&'static str, f64)>,
}

impl Kept {
    fn of(reading: Reading<'_>, sends: &Sends) -> Self {
        let Reading { rule, inputs_digest, text_sr, heatmap, json, .. } = reading;
        let destinations = |takers: &[String]| -> Vec<String> {
            let wanted = rule.destinations.iter().filter(|name| takers.contains(name));
            if rule.mode == Mode::Shadow { Vec::new() } else { wanted.cloned().collect() }
        };
        let uids = [&text_sr.sop_instance_uid, &text_sr.sop_class_uid, &text_sr.series_instance_uid];
        let mut files = vec![ReportFile {
            kind: ObjectKind::TextSr,
            uids: Some(uids.map(ToString::to_string)),
            destinations: destinations(&sends.text_sr),
            bytes: text_sr.file,
        }];
        let kept_here = |kind, bytes| ReportFile { kind, uids: None, bytes, destinations: Vec::new() };
        files.extend(heatmap.map(|png| kept_here(ObjectKind::HeatmapPng, png)));
        let timings = json.timings_ms.iter().map(|(step, time)| (*step, *time)).collect();
        // Only maps with text keys and finite numbers are in it, so that it cannot fail.
        files.extend(serde_json::to_vec_pretty(&json).ok().map(|bytes| kept_here(ObjectKind::ReportJson, bytes)));
        Self { inputs_digest, rule: rule.name.clone(), files, timings }
    }
}

async fn stop_signal() -> &'static str {
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

fn notify_systemd(state: &[sd_notify::NotifyState<'_>]) {
    // Without a NOTIFY_SOCKET this does nothing, which is right.
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

