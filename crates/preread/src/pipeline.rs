//! The way of a study, from what was received to a written report. What is between crates is converted here and nowhere
//! else: received → settled → routed → rendered → inferred → checked → written → delivered; or held, with a reason that a
//! person can act on; or skipped, with the rule that said so; or unchanged, when there is a report of the same inputs.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use dataset::{Header, Instance, Limits, Uid};
use pixel::{Composer, ModelInput};
use report::{
    Completion, ContentTime, Document, Draft, EvidenceItem, ModelText, Objection, Provenance, Report, Source,
    StudyFacts, TokenEvidence, Verdict,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

mod asked;
pub(crate) mod compare;
mod course;
mod documents;
mod doubt;
mod identity;
mod images;
mod kept;
mod whose;

pub(crate) use asked::{Asked, Made};
pub(crate) use course::Course;
pub(crate) use documents::VERIFIED;
use doubt::{EvidenceJson, ForSecond, SecondView};
pub(crate) use identity::{Acceptance, Identity};
use images::{Attended, ImagesJson, LeftOut, Seen};
pub(crate) use images::{HeatMap, image_policy};
pub(crate) use kept::KeptAs;
pub(crate) use whose::{Decisions, Group, accepted_groups, groups_of};

use crate::{
    config::{Mode, ObjectName},
    models::Models,
    route::Rule,
    trust::Trusts,
};

mod objects;
pub(crate) mod rejected;
pub(crate) mod scope;

pub(crate) use objects::Wanted;
use scope::{Candidate, Chosen, Judge, Taken};

/// Everything that reading a study needs, the same for the daemon and for `preread read`.
pub(crate) struct Pipeline {
    pub(crate) rules: Vec<Rule>,
    pub(crate) models: Models,
    pub(crate) trusts: Trusts,
    pub(crate) limits: Limits,
    pub(crate) deadline: Duration,
    pub(crate) device: DeviceIdentity,
    pub(crate) wanted: Wanted,
    pub(crate) asked: Asked,
}

/// Who says it: the same in every report of an installation.
pub(crate) struct DeviceIdentity {
    pub(crate) uid: Uid,
    pub(crate) serial_number: String,
    pub(crate) udi: Option<String>,
}

/// A settled study.
pub(crate) struct Study {
    pub(crate) instances: Vec<StudyInstance>,
    /// The version that a report of it will have, from 1.
    pub(crate) version: u32,
    /// Digest of the inputs of its newest report.
    pub(crate) reported_inputs: Option<String>,
    /// The newest documents of each kind that there are of it, which new ones replace.
    pub(crate) predecessors: Vec<(report::Kind, EvidenceItem)>,
    /// What else came under its UIDs, and what a person decided of it.
    pub(crate) decisions: Decisions,
    /// When reading began.
    pub(crate) content_time: ContentTime,
}

/// One instance of it.
pub(crate) struct StudyInstance {
    pub(crate) path: PathBuf,
    pub(crate) source: String,
    /// The digest of the data set (see [`dataset::Digest`]).
    pub(crate) digest: String,
    /// What the spool says of it, so that damage is seen; nothing for a file that is no spool's.
    pub(crate) kept_as: Option<KeptAs>,
}

/// Why a study has no new report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A person must look. `what` is for the log, `reason` for the person: it may speak of findings.
    Held { what: &'static str, reason: String, rule: Option<String> },
    /// It is not to be read.
    Skipped { reason: String },
    /// Somebody verified a report of it: no draft is delivered beside that.
    Verified,
    /// Its report stands: the same inputs, model and rule.
    Unchanged,
    /// The daemon stops; the study will be read after the next start.
    Stopped,
}

impl End {
    /// The same, said by a rule that would have read the study.
    fn of(self, by: &Rule) -> Self {
        match self {
            Self::Held { what, reason, .. } => held(what, reason, by),
            other => other,
        }
    }
}

fn held(what: &'static str, reason: String, rule: &Rule) -> End {
    End::Held { what, reason, rule: Some(rule.name.clone()) }
}

/// A written report.
pub(crate) struct Reading<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) inputs_digest: String,
    /// Whom it is filed under.
    pub(crate) patient: Identity,
    pub(crate) text_sr: Document,
    /// The other objects that are wanted, and that the draft has something for.
    pub(crate) objects: Vec<(ObjectName, Document)>,
    pub(crate) heatmap: HeatMap,
    pub(crate) json: ReadingJson,
    /// The report for a terminal.
    pub(crate) text: String,
}

/// `report.json`: the report, what it was made from, and how long each step took.
#[derive(Serialize)]
pub(crate) struct ReadingJson {
    #[serde(flatten)]
    report: Report,
    /// What the model wrote, before it was interpreted.
    model_text: String,
    /// What of the images' own attributes the documents do not repeat as it stands.
    pub(crate) notes: Vec<String>,
    images: ImagesJson,
    /// Where in the images the model looked most for each finding that it reports.
    attended: Vec<Attended>,
    /// What is known of the text besides its words.
    evidence: EvidenceJson,
    pub(crate) timings_ms: BTreeMap<&'static str, f64>,
}

struct Opened<'a> {
    study: &'a Study,
    /// The images that could be read, in reading order, each with the instance that it is.
    images: Vec<(Header, &'a StudyInstance)>,
    left_out: Vec<LeftOut>,
    /// What a reader of the report should know of the images.
    notes: Vec<String>,
    /// What a person must decide first, if there is a rule for it.
    doubt: Option<End>,
    /// Whether a verified report is among the instances.
    is_verified: bool,
    /// What would be images of the study if a person decided so.
    in_question: Vec<(Header, &'a StudyInstance)>,
}

struct Routed<'a> {
    opened: Opened<'a>,
    rule: &'a Rule,
    /// The images that the rule's second model was not made for, and why.
    not_for_second: BTreeMap<Uid, String>,
}

struct Pictured<'a> {
    routed: Routed<'a>,
    /// What the model sees.
    input: ModelInput,
    /// The instance whose frame comes first.
    first: Arc<Instance>,
    /// The headers of the instances that it sees a frame of, each with what a report says of it.
    read: Vec<(Header, EvidenceItem)>,
    inputs_digest: String,
}

struct Inferred<'a> {
    rendered: Pictured<'a>,
    answer: infer::Answer,
    text: String,
    /// The images once more, where a second model is to see them.
    second: Option<ForSecond>,
}

struct Checked<'a> {
    inferred: Inferred<'a>,
    draft: Draft,
    evidence: EvidenceJson,
    objections: Vec<Objection>,
    /// Why the draft is not the whole report.
    partial: Vec<String>,
}

impl Pipeline {
    /// Reads a settled study, from now on.
    #[cfg(test)]
    pub(crate) fn read<'a>(&'a self, study: &'a Study) -> Result<Reading<'a>, End> {
        self.read_and_show(study, &mut Made::default())
    }

    /// Reads a settled study, from now on, and shows what was made on the way, whatever comes of it.
    pub(crate) fn read_and_show<'a>(&'a self, study: &'a Study, made: &mut Made) -> Result<Reading<'a>, End> {
        self.read_on(study, &Course::new(None, self.deadline), made)
    }

    /// The same on a course that has begun.
    pub(crate) fn read_on<'a>(
        &'a self,
        study: &'a Study,
        course: &Course,
        made: &mut Made,
    ) -> Result<Reading<'a>, End> {
        let mut clock = Clock::start();
        course.begin("for its instances to be opened", None)?;
        let opened = self.open(study, course)?;
        clock.lap("open");
        let routed = self.route(opened)?;
        clock.lap("route");
        let rule = routed.rule;
        tracing::info!(study = course.study, rule = rule.name, model = rule.model, "reading began");
        course.begin("for its images", Some(rule))?;
        let rendered = self.render(routed, course)?;
        clock.lap("render");
        course.begin(format!("for model \"{}\"", rule.model), Some(rule))?;
        let inferred = self.infer(rendered, course, made)?;
        made.model_text = Some(inferred.text.clone());
        clock.lap("infer");
        let checked = self.check(inferred, course, made)?;
        clock.lap("check");
        course.begin("for its report", Some(rule))?;
        self.write(checked, clock)
    }

    /// Headers of every instance, and which of them are images to read.
    fn open<'a>(&self, study: &'a Study, course: &Course) -> Result<Opened<'a>, End> {
        let mut headers = Vec::with_capacity(study.instances.len());
        for instance in &study.instances {
            course.in_time(None)?;
            headers.push((kept::header(instance, &self.limits)?, instance));
        }
        let documents = study.decisions.documents();
        let rejected::Kept { instances: headers, left_out: rejected, doubt: unread } =
            rejected::taken_out(headers, documents, &self.limits);
        let is_verified = documents::is_verified(&headers, documents, &rejected, &self.limits);
        let sorted = whose::sort(headers, &study.decisions, &self.limits);
        let whose::Sorted { images, mut left_out, notes, doubt, in_question } =
            sorted.map_err(|end| rejected::nothing_left(&rejected, study).unwrap_or(end))?;
        left_out.extend(rejected);
        Ok(Opened { study, images, left_out, notes, doubt: doubt.or(unread), is_verified, in_question })
    }

    /// The rule, and of the images those that it takes and its model was made for.
    fn route<'a>(&'a self, mut opened: Opened<'a>) -> Result<Routed<'a>, End> {
        let candidates = candidates(&opened.images);
        let judge = Judge { rules: &self.rules, models: &self.models, limits: &self.limits };
        let chosen = choose(&judge, &candidates)?;
        let by = match &chosen {
            Chosen::Read(taken) => Some(taken.rule),
            Chosen::Hold(rule, _) => Some(*rule),
            Chosen::Skip(_) => None,
        };
        if opened.is_verified && by.is_some_and(|rule| rule.mode != Mode::Shadow) {
            return Err(End::Verified);
        }
        let taken = match chosen {
            Chosen::Read(taken) => taken,
            Chosen::Hold(rule, reason) => {
                let doubt = opened.doubt.take().map(|doubt| doubt.of(rule));
                return Err(doubt.unwrap_or_else(|| held("its images do not say what they show", reason, rule)));
            }
            Chosen::Skip(reason) => return Err(self.skipped(opened, reason)?),
        };
        if let Some(doubt) = opened.doubt.take() {
            return Err(doubt.of(taken.rule));
        }
        let not_for_second = judge.not_for_second(&taken, &candidates);
        let not_for_second: BTreeMap<Uid, String> = not_for_second
            .into_iter()
            .map(|(index, why)| (opened.images[index].0.sop_instance_uid.clone(), why))
            .collect();
        let images = std::mem::take(&mut opened.images).into_iter().enumerate();
        for (index, (header, instance)) in images {
            match taken.left_out.get(&index) {
                None => opened.images.push((header, instance)),
                Some(reason) => {
                    let reason = reason.clone();
                    opened.left_out.push(LeftOut::image(header.sop_instance_uid, reason, instance.digest.clone()));
                }
            }
        }
        opened.notes.extend(taken.notes);
        Ok(Routed { opened, rule: taken.rule, not_for_second })
    }

    /// How a study ends of which no rule takes an image, if none takes what a person may make count instead either.
    fn skipped(&self, mut opened: Opened<'_>, reason: String) -> Result<End, End> {
        let Some(doubt) = opened.doubt.take() else { return Ok(End::Skipped { reason }) };
        for instance in opened.study.decisions.in_question() {
            opened.in_question.push((kept::header(instance, &self.limits)?, instance));
        }
        let judge = Judge { rules: &self.rules, models: &self.models, limits: &self.limits };
        Ok(match choose(&judge, &candidates(&opened.in_question))? {
            Chosen::Read(Taken { rule, .. }) | Chosen::Hold(rule, _) => doubt.of(rule),
            Chosen::Skip(_) => End::Skipped { reason },
        })
    }

    /// The images that the model sees: those that its manifest asks for, of the stacks and views that the study has.
    fn render<'a>(&'a self, mut routed: Routed<'a>, course: &Course) -> Result<Pictured<'a>, End> {
        let rule = routed.rule;
        let bundle = self.models.bundle(&rule.model);
        let (digest, views) = bundle.map_or(("", &[][..]), |bundle| (&bundle.digest, &bundle.manifest.view));
        let policy = self.models.policy(&rule.model).cloned().unwrap_or_default();
        let images = std::mem::take(&mut routed.opened.images);
        let headers: Vec<&Header> = images.iter().map(|(header, _)| header).collect();
        let settings = self.asked.settings_digest(self.trusts.get(rule).settings_digest);
        let before = routed.opened.left_out.clone();
        let inputs_digest =
            |read: &BTreeSet<usize>| inputs_digest(&images, read, &before, digest, rule, settings.as_ref());
        let reported = |digest: &String| routed.opened.study.reported_inputs.as_ref() == Some(digest);

        let open = |image: usize| {
            if course.in_time(None).is_err() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            Instance::open(&images[image].1.path, &self.limits)
        };
        let composer = Composer::new(&headers, &policy, views, pixel::Limits::default(), Box::new(open));
        if reported(&inputs_digest(&composer.planned())) {
            return Err(End::Unchanged);
        }
        let mut input = composer.compose();
        // A report of the images that there was time for would be another one each time.
        course.in_time(Some(rule))?;
        let Some(first) = input.first.take() else {
            let failures: BTreeSet<String> = input.unread.iter().map(|(_, why)| why.to_string()).collect();
            let failures: Vec<String> = failures.into_iter().collect();
            let reason = format!("no image can be read: {}", failures.join("; "));
            return Err(held("no image can be decoded", reason, rule));
        };
        report::require_readable(&first)
            .map_err(|error| held("an identity that cannot be read", error.to_string(), rule))?;
        // What was planned is not what was read where an image could not be decoded.
        let inputs_digest = inputs_digest(&input.read);
        if reported(&inputs_digest) {
            return Err(End::Unchanged);
        }
        let left_out = input.unread.iter().map(|(image, why)| {
            let (header, instance) = &images[*image];
            LeftOut::image(header.sop_instance_uid.clone(), why.to_string(), instance.digest.clone())
        });
        routed.opened.left_out.extend(left_out);
        let of_read = images.iter().enumerate().filter(|(image, _)| input.read.contains(image));
        let read = of_read.map(|(_, (header, instance))| (header.clone(), evidence(header, instance))).collect();
        Ok(Pictured { routed, input, first, read, inputs_digest })
    }

    /// The model's answer.
    fn infer<'a>(&self, mut rendered: Pictured<'a>, course: &Course, made: &mut Made) -> Result<Inferred<'a>, End> {
        let rule = rendered.routed.rule;
        let failed = |reason: String| held("the model failed", format!("model \"{}\": {reason}", rule.model), rule);
        let dispatcher =
            self.models.dispatcher(&rule.model, course.until()).map_err(|error| failed(crate::told::told(&error)))?;
        let images = images::request(&mut rendered.input).map_err(|error| failed(error.to_string()))?;
        let not_for_second = &rendered.routed.not_for_second;
        let second =
            rule.settings.second_model.as_ref().map(|_| ForSecond::of(&images, &rendered.input, not_for_second));
        let manifest = self.models.bundle(&rule.model).map(|bundle| &bundle.manifest.output);
        let request = infer::Request {
            images,
            output: manifest.map(output).unwrap_or_default(),
            evidence: doubt::wanted(rule),
            ..self.asked.request()
        };
        let answer = dispatcher
            .submit(request, Some(course.until()))
            .inspect(|ticket| made.running.iter_mut().for_each(|running| running(ticket.cancel_handle())))
            .and_then(infer::Ticket::wait)
            .map_err(|error| match error {
                infer::Error::Cancelled => End::Stopped,
                error => failed(error.to_string()),
            })?;
        let text = answer.text.clone();
        Ok(Inferred { rendered, answer, text, second })
    }

    /// The draft that the text amounts to, and what speaks against it.
    fn check<'a>(&self, mut inferred: Inferred<'a>, course: &Course, made: &mut Made) -> Result<Checked<'a>, End> {
        let rule = inferred.rendered.routed.rule;
        let mut draft = self.parse(&inferred);
        let second = self.second_view(rule, &draft, inferred.second.take(), course)?;
        let reading = doubt::facts(&mut draft, &inferred.answer, self.trusts.get(rule), second.as_ref());
        let evidence = EvidenceJson::of(&inferred.answer, &reading, second);
        // No earlier study is given to a model, and nothing is measured: claims of either are objected to.
        let facts = StudyFacts { reading, ..StudyFacts::of(inferred.rendered.read.iter().map(|(header, _)| header)) };
        let objections = report::check(&draft, &facts);
        made.draft = Some(draft.clone());
        made.objections.clone_from(&objections);
        let Verdict { draft, held: against, partial } = report::enforce(draft, &objections, &rule.settings.checks);
        if !against.is_empty() {
            let reason = format!("the draft is not sent: {}", against.join("; "));
            return Err(held("the draft contradicts itself", reason, rule));
        }
        Ok(Checked { inferred, draft, evidence, objections, partial })
    }

    /// The draft that a model's text is, read as the model's manifest says, with what is known of its tokens.
    fn parse(&self, inferred: &Inferred<'_>) -> Draft {
        let answer = &inferred.answer;
        let maps = answer.attention.as_ref();
        let tokens = answer.tokens.iter().enumerate().map(|(index, token)| TokenEvidence {
            range: token.text.clone(),
            logprob: token.logprob,
            attention: maps.and_then(|attention| attention.per_token.get(index).cloned()),
        });
        let grid = maps.map(|attention| (attention.rows, attention.cols));
        let text = ModelText { text: &inferred.text, tokens: tokens.collect(), grid };
        let bundle = self.models.bundle(&inferred.rendered.routed.rule.model);
        match bundle.map(|bundle| bundle.manifest.output.form()) {
            Some(infer::OutputForm::Json) => report::parse_json(&text),
            _ => report::parse(&text),
        }
    }

    /// What the rule's second model says of the images.
    fn second_view(
        &self,
        rule: &Rule,
        draft: &Draft,
        images: Option<ForSecond>,
        course: &Course,
    ) -> Result<Option<SecondView>, End> {
        let (Some(name), Some(images)) = (&rule.settings.second_model, images) else { return Ok(None) };
        course.begin(format!("for the second model, \"{name}\""), Some(rule))?;
        let view = doubt::second_view(name, &self.models, draft, images, course.until());
        view.map(Some).map_err(|error| match error {
            infer::Error::Cancelled => End::Stopped,
            error => held("the second model failed", format!("model \"{name}\": {error}"), rule),
        })
    }

    /// The objects, each past our own IOD and template checks (promise 7).
    fn write<'a>(&self, checked: Checked<'a>, mut clock: Clock) -> Result<Reading<'a>, End> {
        let Checked { inferred, draft, evidence: beside, objections, partial } = checked;
        let Inferred { rendered, answer, text: model_text, .. } = inferred;
        let Pictured { routed: Routed { opened, rule, .. }, mut input, first, read, inputs_digest } = rendered;
        let evidence: Vec<EvidenceItem> = read.into_iter().map(|(_, evidence)| evidence).collect();
        let not_written = |error: report::Error| held("the report cannot be written", error.to_string(), rule);

        let provenance = self.provenance(rule, opened.study, &answer, beside.second_model());
        let patient = Identity::of(&first.header);
        let may_name = |(_, document): &&(report::Kind, EvidenceItem)| {
            opened.study.decisions.may_name(&document.sop_instance_uid, &patient)
        };
        let source = Source {
            representative: &first,
            evidence: evidence.clone(),
            predecessors: opened.study.predecessors.iter().filter(may_name).cloned().collect(),
        };
        let images_left_out = opened.left_out.iter().filter(|it| it.is_image).count();
        let completion = completion(images_left_out, input.frames_not_shown, &partial);
        let options = report::sr::Options { completion: completion.clone(), ..Default::default() };
        let text_sr = report::sr::text_report(&draft, &source, &provenance, &options).map_err(not_written)?;
        let seen = Seen::of(&input, &answer.placements);
        let heatmap = HeatMap::over_first(&mut input, &seen, draft);
        let parts = objects::Parts {
            heatmap: &heatmap,
            seen: &seen,
            source: &source,
            provenance: &provenance,
            completion: &completion,
        };
        let objects = objects::objects(&parts, &self.wanted, rule).map_err(not_written)?;
        let violations = report::validate_all(std::iter::once(&text_sr).chain(objects.iter().map(|(_, it)| it)));
        if report::must_hold(&violations) {
            let reason = format!("the report does not pass our own check: {}", breaches(&violations));
            return Err(held("the report does not pass our own check", reason, rule));
        }
        clock.lap("write");

        let derivation = report::sr::derivation(&source, &provenance);
        let written: Vec<Document> =
            std::iter::once(&text_sr).chain(objects.iter().map(|(_, it)| it)).cloned().collect();
        let report = Report::new(&heatmap.draft, &objections, &provenance, &derivation, &written);
        let text = report::text::render_text(&heatmap.draft, &provenance);
        let mut timings_ms = clock.laps;
        let model = answer.timings_ms;
        let of_model = model.preprocess + model.vision + model.prefill + model.decode;
        timings_ms.insert("model", to_a_microsecond(of_model));
        let attended = seen.attended(&heatmap.draft);
        input.notes.extend(opened.notes);
        let images = ImagesJson::of(input, seen, &evidence, opened.left_out);
        let notes = report::sr::copy_notes(&first);
        let json = ReadingJson { report, model_text, notes, images, attended, evidence: beside, timings_ms };
        Ok(Reading { rule, inputs_digest, patient, text_sr, objects, heatmap, json, text })
    }

    /// How the text was made and held against what, in words.
    fn settings(&self, rule: &Rule, second: Option<&SecondView>) -> String {
        let settings = &rule.settings;
        let mut words = vec![self.asked.decoding()];
        if self.trusts.get(rule).calibration.is_some() {
            words.push("probabilities calibrated".to_owned());
        }
        if settings.evidence.samples > 0 {
            words.push(format!("{} samples", settings.evidence.samples));
        }
        words.extend(second.map(SecondView::in_words));
        words.join("; ")
    }

    fn provenance(
        &self,
        rule: &Rule,
        study: &Study,
        answer: &infer::Answer,
        second: Option<&SecondView>,
    ) -> Provenance {
        let bundle = self.models.bundle(&rule.model);
        let manifest = bundle.map(|bundle| &bundle.manifest);
        Provenance {
            model_name: bundle.map_or_else(|| rule.model.clone(), infer::Bundle::name),
            model_version: manifest.and_then(|it| it.version.clone()).unwrap_or_else(|| "unknown".to_owned()),
            model_digest: bundle.map(|bundle| bundle.digest.clone()).unwrap_or_default(),
            notice: manifest.and_then(|manifest| manifest.notice.clone()),
            prompt_id: match &answer.prompt {
                None => "none".to_owned(),
                Some(prompt) => format!("sha256:{}", &hex(Sha256::digest(prompt))[..16]),
            },
            settings: self.settings(rule, second),
            settings_digest: self.asked.settings_digest(self.trusts.get(rule).settings_digest),
            rule: rule.name.clone(),
            version: study.version,
            device_uid: self.device.uid.clone(),
            device_serial: self.device.serial_number.clone(),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            udi: self.device.udi.clone(),
            content_time: study.content_time.clone(),
        }
    }
}

/// What a model is held to: its manifest's grammar, and JSON that says nothing else to what a report is made of.
fn output(manifest: &infer::OutputManifest) -> infer::Output {
    if manifest.form() == infer::OutputForm::Json && manifest.json_schema.is_none() {
        infer::Output::Bound(infer::Grammar::JsonSchema(report::schema()))
    } else {
        infer::Output::Manifest
    }
}

/// What a report depends on besides our own code: the same digest, the same report. The order of the instances makes no
/// difference. Those that were not read count too, because the report says that it is not of the whole study.
fn inputs_digest(
    images: &[(Header, &StudyInstance)],
    read: &BTreeSet<usize>,
    left_out: &[LeftOut],
    model_digest: &str,
    rule: &Rule,
    settings_digest: Option<&String>,
) -> String {
    let of_rule = images.iter().enumerate().map(|(index, (header, instance))| {
        let what = if read.contains(&index) { "read" } else { "not shown" };
        [header.sop_instance_uid.as_str(), instance.digest.as_str(), what]
    });
    let others = left_out.iter().filter(|it| it.is_image);
    let others = others.map(|it| [it.sop_instance_uid.as_str(), it.digest.as_str(), it.reason.as_str()]);
    let mut inputs: Vec<[&str; 3]> = of_rule.chain(others).collect();
    inputs.sort_unstable();
    let set = settings_digest.map(String::as_str);
    let parts: Vec<&str> = inputs.as_flattened().iter().copied().chain([model_digest, &rule.name]).chain(set).collect();
    hex(Sha256::digest(parts.join("\n")))
}

/// What a report says of an instance that was read.
fn evidence(header: &Header, instance: &StudyInstance) -> EvidenceItem {
    EvidenceItem {
        series_instance_uid: header.series_instance_uid.clone(),
        sop_class_uid: header.sop_class_uid.clone(),
        sop_instance_uid: header.sop_instance_uid.clone(),
        digest: instance.digest.clone(),
    }
}

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Partial when an image of the study was not looked at, or a frame of one that was, or the checks say so.
fn completion(left_out: usize, frames: usize, partial: &[String]) -> Completion {
    let not_seen = match (left_out, frames) {
        (0, 0) => None,
        (0, frames) => Some(format!("{frames} frames of the instances read were not looked at")),
        (count, 0) => Some(format!("{count} other instances of the study were not looked at")),
        // It has room for 64 characters.
        (count, frames) => Some(format!("{count} other instances and {frames} frames were not looked at")),
    };
    let reasons: Vec<String> = partial.iter().cloned().chain(not_seen).collect();
    if reasons.is_empty() { Completion::Complete } else { Completion::Partial(reasons.join("; ")) }
}

fn candidates<'a>(images: &'a [(Header, &StudyInstance)]) -> Vec<Candidate<'a>> {
    images.iter().map(|(header, instance)| Candidate::new(header, &instance.path, &instance.source)).collect()
}

fn choose<'a>(judge: &Judge<'a>, candidates: &[Candidate<'_>]) -> Result<Chosen<'a>, End> {
    judge.choose(candidates).map_err(|error| End::Held {
        what: "a rule failed",
        reason: crate::told::told(&error),
        rule: None,
    })
}

/// What holds a report, each of it once: many documents break one rule.
fn breaches(violations: &[report::Violation]) -> String {
    let held = violations.iter().filter(|it| it.weight == report::Weight::Breach);
    let list: BTreeSet<String> = held.map(|it| format!("{}: {}", it.at, it.sentence)).collect();
    list.into_iter().collect::<Vec<_>>().join("; ")
}

/// `3 x no pixel data, 1 x a localizer`.
fn count_reasons(left_out: &[LeftOut]) -> String {
    let mut counts = BTreeMap::new();
    for instance in left_out {
        *counts.entry(instance.reason.as_str()).or_insert(0) += 1;
    }
    let parts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} x {reason}")).collect();
    parts.join(", ")
}

/// How long each step took, in milliseconds.
struct Clock {
    last: Instant,
    laps: BTreeMap<&'static str, f64>,
}

impl Clock {
    fn start() -> Self {
        Self { last: Instant::now(), laps: BTreeMap::new() }
    }

    fn lap(&mut self, step: &'static str) {
        let now = Instant::now();
        self.laps.insert(step, to_a_microsecond(now.duration_since(self.last).as_secs_f64() * 1000.0));
        self.last = now;
    }
}

/// Milliseconds with three decimals: more of them would mean nothing, and would be read back from a report.json as others.
fn to_a_microsecond(milliseconds: f64) -> f64 {
    (milliseconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests;
