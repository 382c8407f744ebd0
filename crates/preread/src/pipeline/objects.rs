//! The documents of a reading besides its text report, by what the rule's destinations ask for.

use std::collections::{BTreeMap, BTreeSet};

use dataset::tags;
use report::{
    CodedFindings, Completion, Document, Grid, Provenance, Region, Shape, Source, heatmap, key_objects, pdf,
    presentation,
    sr::{MeasurementClass, MeasurementOptions, Options, TextClass, measurement_report, results_report, text_report},
};

use super::images::{HeatMap, Seen};
use crate::{
    config::{DestinationSection, ObjectName},
    route::Rule,
};

/// Which objects are made of a reading.
pub(crate) enum Wanted {
    /// One of each, for a person who looks at them.
    Everything,
    /// Those that a rule's destinations ask for, by the destination's name.
    ByDestination(BTreeMap<String, Vec<ObjectName>>),
}

impl Wanted {
    /// What the destinations of a configuration ask for.
    pub(crate) fn by(destinations: &[DestinationSection]) -> Self {
        Self::ByDestination(destinations.iter().map(|it| (it.name.clone(), it.objects.clone())).collect())
    }

    fn of(&self, rule: &Rule) -> BTreeSet<ObjectName> {
        match self {
            Self::Everything => ObjectName::ONE_OF_EACH.into_iter().collect(),
            Self::ByDestination(objects) => {
                let mut wanted: BTreeSet<_> =
                    rule.destinations.iter().filter_map(|name| objects.get(name)).flatten().copied().collect();
                // For the destinations that turn out to take no Comprehensive 3D SR.
                if wanted.contains(&ObjectName::MeasurementsSr) {
                    wanted.insert(ObjectName::ComprehensiveMeasurementsSr);
                }
                wanted
            }
        }
    }
}

/// What the documents are made from.
pub(super) struct Parts<'a> {
    pub(super) heatmap: &'a HeatMap,
    pub(super) seen: &'a Seen,
    pub(super) source: &'a Source<'a>,
    pub(super) provenance: &'a Provenance,
    pub(super) completion: &'a Completion,
}

/// The documents that are wanted for a rule, but the text report, which there is always. What a draft has nothing for is
/// not made: no measurement report without a finding that has a place.
pub(super) fn objects(
    parts: &Parts<'_>,
    wanted: &Wanted,
    rule: &Rule,
) -> Result<Vec<(ObjectName, Document)>, report::Error> {
    let wanted = wanted.of(rule);
    if wanted.iter().all(|name| *name == ObjectName::TextSr) {
        return Ok(Vec::new());
    }
    let Parts { heatmap: map, seen, source, provenance, completion } = *parts;
    let draft = &map.draft;
    let findings = CodedFindings::of(draft, |grid| region(grid, seen, source));
    let frame = map.frame.and_then(|frame| number(frame, source));
    let wants = |name| wanted.contains(&name);
    let mut made = Vec::new();

    let drawn = if wants(ObjectName::Heatmap) || wants(ObjectName::Pdf) { Some(map.draw()?) } else { None };
    let heat_map = match &drawn {
        Some(drawn) if wants(ObjectName::Heatmap) => {
            Some(heatmap::secondary_capture(drawn, frame, source, provenance)?)
        }
        _ => None,
    };
    if wants(ObjectName::EnhancedTextSr) {
        let options =
            Options { class: TextClass::Enhanced, completion: completion.clone(), clinical_information: None };
        made.push((ObjectName::EnhancedTextSr, text_report(draft, source, provenance, &options)?));
    }
    for (name, class) in [
        (ObjectName::MeasurementsSr, MeasurementClass::Comprehensive3D),
        (ObjectName::ComprehensiveMeasurementsSr, MeasurementClass::Comprehensive),
    ] {
        if wants(name) {
            let options = MeasurementOptions { class, completion: completion.clone(), heat_map: heat_map.as_ref() };
            let report = measurement_report(&findings, source, provenance, &options)?;
            made.extend(report.map(|report| (name, report)));
        }
    }
    if wants(ObjectName::AiResultsSr) {
        let report = results_report(&findings, source, provenance, completion)?;
        made.extend(report.map(|report| (ObjectName::AiResultsSr, report)));
    }
    if wants(ObjectName::Pdf) {
        let sections = pdf::sections(draft, provenance, source.evidence.len());
        let figures = drawn.iter().map(|picture| pdf::Figure { picture, caption: "What the model attended to." });
        let figures: Vec<pdf::Figure<'_>> = figures.collect();
        made.push((ObjectName::Pdf, pdf::report(&sections, &figures, source, provenance)?));
    }
    if wants(ObjectName::KeyObjects) {
        let regions = findings.localized.iter().map(|finding| &finding.region);
        let document = key_objects::key_objects(regions, heat_map.as_ref(), source, provenance)?;
        made.push((ObjectName::KeyObjects, document));
    }
    if wants(ObjectName::PresentationState) {
        let document =
            presentation::presentation_state(&findings.localized, &[source.representative], source, provenance)?;
        made.extend(document.map(|document| (ObjectName::PresentationState, document)));
    }
    made.extend(heat_map.map(|document| (ObjectName::Heatmap, document)));
    Ok(made)
}

/// Where a map lies in the instance that a reading has open; nothing when it lies in another one.
fn region(grid: &Grid, seen: &Seen, source: &Source<'_>) -> Option<Region> {
    let (frame, corners) = seen.outline(grid)?;
    let header = &source.representative.header;
    let image = source.evidence.iter().find(|image| image.sop_instance_uid == header.sop_instance_uid)?;
    let is_it = frame.sop_instance_uid == header.sop_instance_uid;
    is_it.then(|| Region::new(image, number(frame.frame, source), Shape::Polygon(corners)))
}

/// The number of a frame of the representative instance, from 1, where that has several.
fn number(frame: u32, source: &Source<'_>) -> Option<u32> {
    let frames = source.representative.header.text(tags::NUMBER_OF_FRAMES)?.trim().parse::<u32>().ok()?;
    (frames > 1).then_some(frame + 1)
}
