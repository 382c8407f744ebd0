//! Settles studies and reads them, one at a time: the model takes every core that it may.
//!
//! While nothing has settled, what may be complete is read ahead, so that its report is there when the quiet period ends.
//! A reading made ahead counts only when the study settles with the very instances that it saw.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use dataset::Uid;
use report::{Document, EvidenceItem};
use spool::{Claim, ObjectKind, Prepared, ReportFile, Spool, StudyId, StudyState};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    clock,
    config::{Config, Mode, ObjectName},
    pipeline::{
        Course, Decisions, End, HeatMap, KeptAs, Made, Pipeline, Reading, ReadingJson, Study, StudyInstance, VERIFIED,
        compare, rejected,
    },
};

mod watch;

use watch::Watched;

/// How long at the most until the spool is looked at again, for what another process changed (`preread queue retry`).
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Readings kept that were made ahead; each holds its picture, some ten megabytes for a radiograph.
const AHEAD: usize = 8;

/// The task that reads.
pub(crate) struct Reader {
    spool: Spool,
    pipeline: Arc<Pipeline>,
    sends: Arc<Sends>,
    written: Arc<Notify>,
    ahead: VecDeque<(Claim, Outcome)>,
    /// Models to load before the first study, by name.
    preload: Vec<String>,
    /// A study whose reading went on when its time was long over.
    stuck: Option<StudyId>,
}

type Outcome = Result<Kept, End>;

/// The objects that each destination takes, by its name.
type Sends = BTreeMap<String, Vec<ObjectName>>;

/// A reading whose report is on the disk, and not yet counted on.
struct Kept {
    version: i64,
    inputs_digest: String,
    rule: String,
    report: Prepared,
    json: ReadingJson,
    heatmap: HeatMap,
}

impl Reader {
    /// Reads what settles in `spool`, which wakes it, and wakes `written`.
    pub(crate) fn new(spool: Spool, pipeline: Arc<Pipeline>, config: &Config, written: Arc<Notify>) -> Self {
        let takes = config.destinations.iter().map(|section| (section.name.clone(), section.objects.clone()));
        let sends = Arc::new(takes.collect());
        let preload = config.models.iter().filter(|model| model.preload).map(|model| model.name.clone()).collect();
        Self { spool, pipeline, sends, written, ahead: VecDeque::new(), preload, stuck: None }
    }

    /// Reads until told to stop. Errors when the spool does; while the disk is full, studies wait.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<()> {
        for model in std::mem::take(&mut self.preload) {
            self.load_ahead(&model).await?;
        }
        while !stop.is_cancelled() {
            let step = self.step(&stop).await;
            if let Some(study) = self.stuck {
                // Its thread has the model, and nothing but an end of the process takes it away.
                anyhow::bail!("the reading of study {study} could not be stopped; its study is held");
            }
            match step {
                Err(error) if is_full_disk(&error) => {
                    tracing::error!(%error, "no study is read while the disk is full");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// Loads a model before a study needs it, noted like a reading: what ends the process must not do so at each start.
    async fn load_ahead(&self, model: &str) -> Result<()> {
        let Some(digest) = self.pipeline.models.bundle(model).map(|bundle| bundle.digest.clone()) else {
            return Ok(());
        };
        match self.spool.begin_preload(&digest).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::error!(model, "loading this model ended preread before: it is loaded when a study needs it");
                return Ok(());
            }
            Err(error) if error.is_full_disk() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let (pipeline, name) = (Arc::clone(&self.pipeline), model.to_owned());
        let until = Instant::now() + self.pipeline.deadline;
        let loaded = tokio::task::spawn_blocking(move || pipeline.models.dispatcher(&name, until).map(drop)).await;
        let loaded = loaded.unwrap_or_else(|_| Err(anyhow::anyhow!("a defect in preread; the log has its place")));
        if let Err(error) = loaded {
            let error = crate::told::told(&error);
            tracing::error!("model \"{model}\" could not be loaded ahead; it is tried again with a study: {error}");
        }
        Ok(self.spool.end_preload(&digest).await?)
    }

    async fn step(&mut self, stop: &CancellationToken) -> Result<()> {
        self.spool.settle(clock::now()).await?;
        // After settling, which gives what came last its rows, and before a study of theirs is claimed.
        while compare::new_ones(&self.spool, &self.pipeline.limits).await? > 0 && !stop.is_cancelled() {}
        if let Some(claim) = self.spool.claim().await? {
            let span = tracing::info_span!("study", study = claim.study);
            if claim.deaths > 0 {
                tracing::warn!(
                    study = claim.study,
                    deaths = claim.deaths,
                    "reading ended preread before: it is tried again"
                );
            }
            let read = self.read_settled(claim.clone()).instrument(span).await;
            if read.as_ref().is_err_and(is_full_disk) {
                self.give_back(&claim, stop).await?;
            }
            read
        } else if !self.read_ahead().await? {
            self.wait(stop).await
        } else {
            Ok(())
        }
    }

    /// Gives a claim back whose end could not be written down, as soon as there is room.
    async fn give_back(&self, claim: &Claim, stop: &CancellationToken) -> Result<()> {
        while !stop.is_cancelled() {
            match self.spool.release(claim).await {
                Err(error) if error.is_full_disk() => tokio::time::sleep(LOOK_AGAIN).await,
                given_back => return given_back.map(|_| ()).map_err(Into::into),
            }
        }
        Ok(())
    }

    async fn wait(&self, stop: &CancellationToken) -> Result<()> {
        let now = clock::now();
        let until_due = self.spool.next_due(now)?.map_or(i64::MAX, |due| due.saturating_sub(now));
        // What is due and did not settle has an open association, whose end wakes us.
        let wait = match u64::try_from(until_due) {
            Ok(milliseconds) if milliseconds > 0 => Duration::from_millis(milliseconds).min(LOOK_AGAIN),
            _ => LOOK_AGAIN,
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.spool.filed().notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        Ok(())
    }

    /// Reads one study that has not settled; false when there is none to read.
    async fn read_ahead(&mut self) -> Result<bool> {
        self.forget_outdated()?;
        if self.ahead.len() >= AHEAD {
            return Ok(false);
        }
        let known: Vec<_> = self.ahead.iter().map(|(claim, _)| claim.study).collect();
        let Some(claim) = self.spool.unsettled(&known, clock::now())? else { return Ok(false) };
        if !self.spool.begin_ahead(&claim).await? {
            return Ok(true);
        }
        let span = tracing::info_span!("study", study = claim.study, ahead = true);
        let outcome = self.read(&claim).instrument(span).await;
        if let (Some(study), Ok(Err(End::Held { reason, .. }))) = (self.stuck, &outcome) {
            self.spool.hold(study, reason.clone()).await?;
        }
        self.spool.end_ahead(&claim).await?;
        self.ahead.push_back((claim, outcome?));
        Ok(true)
    }

    /// Drops readings made ahead that will never count: a person held or dropped the study, or it got more instances.
    fn forget_outdated(&mut self) -> Result<()> {
        let mut still = VecDeque::with_capacity(self.ahead.len());
        for (claim, outcome) in self.ahead.drain(..) {
            if self.spool.is_waiting(&claim)? {
                still.push_back((claim, outcome));
            }
        }
        self.ahead = still;
        Ok(())
    }

    async fn read_settled(&mut self, claim: Claim) -> Result<()> {
        let ahead = self.ahead.iter().position(|(ahead, _)| ahead.study == claim.study);
        let ahead = ahead.and_then(|index| self.ahead.remove(index));
        let outcome = match ahead {
            // A failure is tried again: what a person reads of it should have happened to the settled study.
            Some((seen, Ok(kept))) if seen.saw_the_same(&claim) => Ok(kept),
            _ => self.read(&claim).await?,
        };
        if !self.end(&claim, outcome).await? {
            tracing::info!(
                study = claim.study,
                "instances came while the study was read: it is read again when they are all there"
            );
        }
        Ok(())
    }

    async fn read(&mut self, claim: &Claim) -> Result<Outcome> {
        rejected::mark_own(&self.spool, claim, &self.pipeline.limits).await?;
        let study = match study(&self.spool, claim) {
            Ok(study) => study,
            Err(error) if error.is::<NotUnderstood>() => {
                let what = "what the spool says of it is not understood";
                return Ok(Err(End::Held { what, reason: error.to_string(), rule: None }));
            }
            Err(error) => return Err(error),
        };
        let version = i64::from(study.version);
        let course = Arc::new(Course::new(Some(claim.study), self.pipeline.deadline));
        let (pipeline, sends, on) = (Arc::clone(&self.pipeline), Arc::clone(&self.sends), Arc::clone(&course));
        let span = tracing::Span::current();
        let read = tokio::task::spawn_blocking(move || {
            let _in_span = span.enter();
            let reading = pipeline.read_on(&study, &on, &mut Made::default())?;
            let files = files(&reading, &sends);
            let Reading { rule, inputs_digest, patient, json, heatmap, .. } = reading;
            Ok((rule.name.clone(), inputs_digest, patient.to_string(), files, json, heatmap))
        });
        let read = match watch::until_it_ends(read, &course).await {
            Watched::Ended(read) => read,
            Watched::Panicked => {
                let reason = "a defect in preread stopped the reading; the log has its place".to_owned();
                Err(End::Held { what: "a defect stopped the reading", reason, rule: None })
            }
            Watched::Stuck => {
                self.stuck = Some(claim.study);
                Err(End::Held { what: "the reading took too long", reason: course.too_long(), rule: None })
            }
        };
        let (rule, inputs_digest, patient, files, json, heatmap) = match read {
            Ok(read) => read,
            Err(end) => return Ok(Err(end)),
        };
        let report = self.spool.prepare(files, clock::now()).await?.filed_under(patient);
        Ok(Ok(Kept { version, inputs_digest, rule, report, json, heatmap }))
    }

    /// Writes down how a reading ended; false when instances came since its claim, so that this is not its end.
    async fn end(&self, claim: &Claim, outcome: Outcome) -> Result<bool> {
        Ok(match outcome {
            Ok(kept) => {
                let Kept { version, inputs_digest, rule, report, json, heatmap } = kept;
                if !self.spool.written(claim, version, inputs_digest, rule, report, clock::now()).await? {
                    return Ok(false);
                }
                self.written.notify_one();
                tracing::info!(study = claim.study, version, timings_ms = ?json.timings_ms, "report written");
                self.attach(claim, version, json, heatmap).await?;
                true
            }
            Err(End::Held { what, reason, rule }) => {
                tracing::warn!(study = claim.study, reason = what, "study held");
                self.spool.end(claim, StudyState::Held, reason, rule).await?
            }
            Err(End::Skipped { reason }) => {
                tracing::info!(study = claim.study, reason, "study skipped");
                self.spool.end(claim, StudyState::Skipped, reason, None).await?
            }
            Err(End::Verified) => {
                tracing::info!(study = claim.study, reason = VERIFIED, "nothing is delivered of the study");
                self.spool.end_for_good(claim, VERIFIED.to_owned()).await?
            }
            Err(End::Unchanged) => {
                tracing::info!(study = claim.study, "nothing new to read: the report stands");
                self.spool.unchanged(claim).await?
            }
            Err(End::Stopped) => self.spool.release(claim).await?,
        })
    }

    /// Keeps what stays here, after the report was sent on its way.
    async fn attach(&self, claim: &Claim, version: i64, json: ReadingJson, heatmap: HeatMap) -> Result<()> {
        let drawn = tokio::task::spawn_blocking(move || {
            let kept_here = |kind, bytes| ReportFile { kind, uids: None, bytes, destinations: Vec::new() };
            let json = serde_json::to_vec_pretty(&json).map(|bytes| kept_here(ObjectKind::ReportJson, bytes))?;
            let heatmap = kept_here(ObjectKind::HeatmapPng, heatmap.png()?);
            Ok::<_, anyhow::Error>(vec![json, heatmap])
        });
        match drawn.await? {
            Ok(files) => {
                let files = self.spool.prepare(files, clock::now()).await?;
                Ok(self.spool.attach(claim.study, version, files, clock::now()).await?)
            }
            Err(error) => {
                tracing::warn!(%error, "the report is on its way, but its JSON and heat map could not be made");
                Ok(())
            }
        }
    }
}

fn is_full_disk(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(spool::Error::is_full_disk)
}

/// A row that holds what this version does not understand: that of a later version, or a damaged one. Its study is held.
#[derive(Debug, thiserror::Error)]
#[error(
    "what the spool says of this study is not understood ({0}); was it written by a later preread? Install that one, or look \
     at the disk, and then `preread queue retry`"
)]
struct NotUnderstood(String);

fn study(spool: &Spool, claim: &Claim) -> Result<Study> {
    let lineage = spool.lineage(claim.study).map_err(|error| match error.not_understood() {
        Some(what) => NotUnderstood(what).into(),
        None => anyhow::Error::from(error),
    })?;
    let decisions = Decisions::of(claim, &lineage);
    let uid =
        |name: &str, uid: &str| uid.parse::<Uid>().map_err(|_| NotUnderstood(format!("{name} of a report is no UID")));
    let mut predecessors = Vec::new();
    for it in lineage.predecessors {
        let Some(kind) = document_kind(it.kind) else { continue };
        let item = EvidenceItem {
            sop_class_uid: uid("the SOP Class UID", &it.sop_class_uid)?,
            sop_instance_uid: uid("the SOP Instance UID", &it.sop_instance_uid)?,
            series_instance_uid: uid("the Series Instance UID", &it.series_instance_uid)?,
            digest: String::new(),
        };
        predecessors.push((kind, item));
    }
    let instance = |instance: &spool::InstanceView| StudyInstance {
        path: instance.path.clone(),
        source: instance.source.clone(),
        digest: instance.digest.clone(),
        kept_as: Some(KeptAs {
            study_instance_uid: claim.study_instance_uid.clone(),
            sop_instance_uid: instance.sop_instance_uid.clone(),
            transfer_syntax_uid: instance.transfer_syntax_uid.clone(),
        }),
    };
    let version = u32::try_from(lineage.next_version)
        .map_err(|_| NotUnderstood(format!("the next version of its report would be {}", lineage.next_version)))?;
    Ok(Study {
        instances: claim.instances.iter().map(instance).collect(),
        version,
        reported_inputs: lineage.inputs_digest,
        predecessors,
        decisions,
        content_time: clock::content_time(clock::now()),
    })
}

/// The documents as the spool keeps them, each with the destinations that it goes to.
fn files(reading: &Reading<'_>, sends: &Sends) -> Vec<ReportFile> {
    let rule = reading.rule;
    let others = reading.objects.iter().map(|(name, document)| (*name, document));
    let all = std::iter::once((ObjectName::TextSr, &reading.text_sr)).chain(others);
    let file = |(name, document): (ObjectName, &Document)| {
        let takes = |destination: &&String| sends.get(*destination).is_some_and(|objects| objects.contains(&name));
        let wanted = rule.destinations.iter().filter(takes);
        let destinations = if rule.mode == Mode::Shadow { Vec::new() } else { wanted.cloned().collect() };
        let uids = [&document.sop_instance_uid, &document.sop_class_uid, &document.series_instance_uid];
        let uids = Some(uids.map(ToString::to_string));
        ReportFile { kind: name.into(), uids, bytes: document.file.clone(), destinations }
    };
    all.map(file).collect()
}

/// What `report` calls an object that the spool keeps; nothing for what is no DICOM object.
fn document_kind(kind: ObjectKind) -> Option<report::Kind> {
    Some(match kind {
        ObjectKind::TextSr => report::Kind::BasicTextReport,
        ObjectKind::EnhancedTextSr => report::Kind::EnhancedTextReport,
        ObjectKind::MeasurementsSr => report::Kind::Measurements3D,
        ObjectKind::ComprehensiveMeasurementsSr => report::Kind::Measurements,
        ObjectKind::AiResultsSr => report::Kind::Results,
        ObjectKind::Pdf => report::Kind::Pdf,
        ObjectKind::Heatmap => report::Kind::HeatMap,
        ObjectKind::KeyObjects => report::Kind::KeyObjects,
        ObjectKind::PresentationState => report::Kind::Presentation,
        ObjectKind::RejectionNote | ObjectKind::HeatmapPng | ObjectKind::ReportJson => return None,
    })
}
