//! What is known of a model's text besides its words, between the crates: what `infer` gives with an answer, and what a
//! second model says of the same images, as `report` holds it against the draft.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Instant,
};

use dataset::Uid;
use infer::{Answer, EvidenceOptions, Image, StoppedBy};
use pixel::ModelInput;
use report::{Calibration, Concept, Draft, Opinion, ReadingFacts, Sort, Status, Thresholds};
use serde::Serialize;

use crate::{models::Models, route::Rule, trust::Trust};

/// More findings than a second model is asked about in a study.
const ASKED: usize = 24;

/// What a rule asks of the model besides its text.
pub(super) fn wanted(rule: &Rule) -> EvidenceOptions {
    let evidence = rule.settings.evidence;
    EvidenceOptions {
        samples: evidence.samples,
        image_dependence: evidence.image_dependence,
        occlusion: evidence.saliency,
        ..EvidenceOptions::default()
    }
}

/// What of a request's images the second model is given.
pub(super) struct ForSecond {
    images: Vec<Image>,
    /// How many there are.
    of: usize,
    /// Why the others are not.
    not_given: BTreeSet<String>,
}

impl ForSecond {
    /// Those that show no image of the study that the model was not made for.
    pub(super) fn of(images: &[Image], input: &ModelInput, not_for_second: &BTreeMap<Uid, String>) -> Self {
        let mut given = Self { images: Vec::new(), of: images.len(), not_given: BTreeSet::new() };
        for (image, shown) in images.iter().zip(&input.images) {
            let sources = shown.picture.layout.tiles.iter().map(|tile| &tile.source.sop_instance_uid);
            let reasons: Vec<&String> = sources.filter_map(|uid| not_for_second.get(uid)).collect();
            if reasons.is_empty() {
                given.images.push(image.clone());
            }
            given.not_given.extend(reasons.into_iter().cloned());
        }
        given
    }
}

/// The second model's view.
#[derive(Serialize, Clone)]
pub(super) struct SecondView {
    model: String,
    model_digest: String,
    /// How many images it was given. With none it was asked nothing.
    images: usize,
    /// How many the first model was given.
    of: usize,
    /// Why it was not given the others, each reason once.
    not_given: BTreeSet<String>,
    opinions: Vec<Opinion>,
}

impl SecondView {
    /// For a report: that it was asked, or why not.
    pub(super) fn in_words(&self) -> String {
        let Self { model, images, of, not_given, .. } = self;
        let why = || not_given.iter().map(String::as_str).collect::<Vec<_>>().join("; ");
        match images {
            _ if images == of => format!("second model {model}"),
            0 => format!("no second reading: second model {model} was not made for these images ({})", why()),
            _ => format!("second model {model}, given {images} of {of} images ({})", why()),
        }
    }
}

/// Puts what is known beside the words into the draft, and answers what the checks need of it.
pub(super) fn facts(draft: &mut Draft, answer: &Answer, trust: Trust, second: Option<&SecondView>) -> ReadingFacts {
    let image_dependence = image_dependence(answer);
    if let Some(calibration) = &trust.calibration {
        draft.calibrate(calibration);
    }
    draft.count_repetitions(&answer.evidence.samples);
    draft.depend_on_images(&image_dependence);
    ReadingFacts {
        cut: answer.stopped_by == StoppedBy::Length,
        calibration: trust.calibration,
        thresholds: trust.thresholds,
        image_dependence,
        second_model: second.map(|view| view.opinions.clone()).unwrap_or_default(),
    }
}

/// For each sentence of the answer: the part of its probability that the images bring, 1 - p(black images) / p(images).
fn image_dependence(answer: &Answer) -> Vec<(Range<usize>, f64)> {
    let part = |log_ratio: f32| 1.0 - (-f64::from(log_ratio.max(0.0))).exp();
    let sentences = answer.evidence.sentences.iter();
    sentences.filter_map(|it| Some((it.text.clone(), part(it.image_dependence?)))).collect()
}

/// Asks a second model about each finding that the draft states or denies: on every image that it is given "X" against
/// "no X". Errors when it cannot be asked.
pub(super) fn second_view(
    name: &str,
    models: &Models,
    draft: &Draft,
    given: ForSecond,
    deadline: Instant,
) -> Result<SecondView, infer::Error> {
    let ForSecond { images, of, not_given } = given;
    let model_digest = models.bundle(name).map(|bundle| bundle.digest.clone()).unwrap_or_default();
    let view = |opinions, images| SecondView { model: name.to_owned(), model_digest, images, of, not_given, opinions };
    let concepts = concepts(draft);
    let count = images.len();
    if concepts.is_empty() || images.is_empty() {
        return Ok(view(Vec::new(), count));
    }
    let labels = concepts.iter().flat_map(|concept| [concept.name().to_owned(), format!("no {}", concept.name())]);
    let request = infer::Request { images, labels: labels.collect(), ..Default::default() };
    let dispatcher = models.dispatcher(name, deadline).map_err(|error| infer::Error::Request(format!("{error:#}")))?;
    let answer = dispatcher.submit(request, Some(deadline)).and_then(infer::Ticket::wait)?;
    let unscored = || infer::Error::Request("the second model scored no labels".to_owned());
    let scores = answer.zero_shot.ok_or_else(unscored)?.logits_per_image;
    let opinion = |(number, concept): (usize, &Concept)| {
        // Whatever the model's scale, the two stand against each other alone; the image that shows it best counts.
        let pairs = scores.iter().map(|of_image| of_image.get(number * 2).zip(of_image.get(number * 2 + 1)));
        let against = pairs.map(|pair| pair.map(|(is, is_not)| 1.0 / (1.0 + f64::from(is_not - is).exp())));
        let best = against.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)?;
        best.is_finite().then(|| Opinion { concept: concept.id().to_owned(), probability: best })
    };
    let opinions: Option<Vec<Opinion>> = concepts.iter().enumerate().map(opinion).collect();
    Ok(view(opinions.ok_or_else(unscored)?, count))
}

/// The findings that a draft states or denies of the images, each once.
fn concepts(draft: &Draft) -> Vec<Concept> {
    let mut concepts = Vec::new();
    for (_, statement) in draft.structure.statements() {
        let is_finding = statement.status == Status::Current && statement.concept.sort() == Sort::Finding;
        if is_finding && !concepts.contains(&statement.concept) && concepts.len() < ASKED {
            concepts.push(statement.concept);
        }
    }
    concepts
}

/// The same for `report.json`.
#[derive(Serialize)]
pub(super) struct EvidenceJson {
    stopped_by: StoppedBy,
    /// Whether the probabilities of sentences were compared with what turned out to be true.
    probabilities: &'static str,
    calibration: Option<Calibration>,
    thresholds: Thresholds,
    /// Other answers to the same images, drawn at random. Model output, as `model_text`.
    samples: Vec<String>,
    /// For each sentence of the model's text, which cells of which image it hangs on.
    saliency: Vec<SaliencyJson>,
    second_model: Option<SecondView>,
}

/// By how much covering a cell of an image lowers the log-probability of a sentence, row by row.
#[derive(Serialize)]
struct SaliencyJson {
    /// Bytes of `model_text`.
    sentence: Range<usize>,
    /// Index among the images shown.
    image: usize,
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl EvidenceJson {
    /// What the second model said, where there is one.
    pub(super) fn second_model(&self) -> Option<&SecondView> {
        self.second_model.as_ref()
    }

    pub(super) fn of(answer: &Answer, reading: &ReadingFacts, second_model: Option<SecondView>) -> Self {
        let evidence = &answer.evidence;
        let of_image = |map: &infer::Saliency| {
            let (image, rows, columns) = (map.image, map.rows, map.cols);
            let of_sentence = |(sentence, values): (&infer::Sentence, &Vec<f32>)| SaliencyJson {
                sentence: sentence.text.clone(),
                image,
                rows,
                columns,
                values: values.clone(),
            };
            evidence.sentences.iter().zip(&map.per_sentence).map(of_sentence).collect::<Vec<_>>()
        };
        Self {
            stopped_by: answer.stopped_by,
            probabilities: if reading.calibration.is_some() { "calibrated" } else { "uncalibrated" },
            calibration: reading.calibration.clone(),
            thresholds: reading.thresholds.clone(),
            samples: evidence.samples.clone(),
            saliency: evidence.saliency.iter().flat_map(of_image).collect(),
            second_model,
        }
    }
}
