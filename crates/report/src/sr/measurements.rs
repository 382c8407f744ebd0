//! The coded findings as a TID 1500 Imaging Measurement Report: those with a place in groups that a viewer draws, or
//! those of the whole study in groups that a program reads.

use std::collections::BTreeMap;

use dataset::Uid;

use super::{finish, language_and_observer, procedure_reported};
use crate::{
    Code, Error,
    codes::{
        ABSENT, ALGORITHM_FAMILY, ALGORITHM_NAME, ALGORITHM_PARAMETERS, ALGORITHM_VERSION, ARTIFICIAL_INTELLIGENCE,
        CENTER, CERTAINTY_OF_FINDING, FINDING, FINDING_SITE, ILLUSTRATION_OF_ROI, IMAGE_LIBRARY, IMAGE_LIBRARY_GROUP,
        IMAGE_REGION, IMAGING_MEASUREMENT_REPORT, IMAGING_MEASUREMENTS, LATERALITY, LENGTH, MEASUREMENT_GROUP, PATH,
        PERCENT, PRESENCE, PRESENT, QUALITATIVE_EVALUATIONS, SOURCE_OF_MEASUREMENT, TRACKING_IDENTIFIER,
        TRACKING_UNIQUE_IDENTIFIER,
    },
    content::{self, Item, ItemValue, code, container, one_line},
    document::{Completion, Document, EvidenceItem, Provenance, Source},
    draft::Presence,
    header::derivation,
    localized::{Certainty, CodedFindings, LocalizedFinding, Measurement, Shape, StudyFinding, Trust},
    references::Place,
    uids::Kind,
};

/// The SOP class of a measurement report (PS3.3 A.35.3, A.35.13). Both have the same content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MeasurementClass {
    /// Comprehensive 3D SR, which IHE AI Results asks for.
    #[default]
    Comprehensive3D,
    /// Comprehensive SR, for archives that take no Comprehensive 3D SR.
    Comprehensive,
}

impl MeasurementClass {
    /// Which of the documents of a reading it makes.
    pub fn kind(self) -> Kind {
        match self {
            Self::Comprehensive3D => Kind::Measurements3D,
            Self::Comprehensive => Kind::Measurements,
        }
    }
}

/// What the destination asks of a measurement report.
#[derive(Debug, Clone, Default)]
pub struct MeasurementOptions<'a> {
    /// As which SOP class.
    pub class: MeasurementClass,
    /// Whether all stages ran on the whole study.
    pub completion: Completion,
    /// The heat map of the same reading, where one was made: each group then refers to it.
    pub heat_map: Option<&'a Document>,
}

/// The findings with a place, each in a measurement group, and those of the study under Qualitative Evaluations.
///
/// None without a finding that has a place: such a document blanks viewers. Errors when an outline cannot be drawn or a
/// number is none.
pub fn measurement_report(
    findings: &CodedFindings,
    source: &Source<'_>,
    provenance: &Provenance,
    options: &MeasurementOptions<'_>,
) -> Result<Option<Document>, Error> {
    if findings.localized.is_empty() {
        return Ok(None);
    }
    let derivation = derivation(source, provenance);
    let mut numbers = Numbering::default();
    let mut groups = Vec::new();
    for finding in &findings.localized {
        let identity = identity(&finding.label, finding.finding, finding.site, finding.laterality);
        let tracking = derivation.tracking(&identity, numbers.next(&identity));
        groups.push(localized_group(finding, tracking, provenance, options.heat_map)?);
    }
    let mut items = beginning(findings, source, provenance);
    items.push(container(IMAGING_MEASUREMENTS, groups));
    if !findings.study.is_empty() {
        items.push(container(QUALITATIVE_EVALUATIONS, findings.study.iter().map(evaluation).collect()));
    }
    let regions = findings.localized.iter().map(|finding| finding.region.place());
    let more = regions.chain(options.heat_map.map(Place::from));
    let root = (IMAGING_MEASUREMENT_REPORT, "1500", items.as_slice());
    finish(options.class.kind(), root, source, provenance, &options.completion, more).map(Some)
}

/// The findings of the study, each with its probability in a measurement group that has no region (TID 1501), the others
/// under Qualitative Evaluations; for programs that read IHE AI Results.
///
/// None where nothing is known of the study. It blanks OHIF, so that it never goes without a text report beside it.
pub fn results_report(
    findings: &CodedFindings,
    source: &Source<'_>,
    provenance: &Provenance,
    completion: &Completion,
) -> Result<Option<Document>, Error> {
    if findings.study.is_empty() {
        return Ok(None);
    }
    let derivation = derivation(source, provenance);
    let mut numbers = Numbering::default();
    let (mut groups, mut evaluations) = (Vec::new(), Vec::new());
    for finding in &findings.study {
        match finding.certainty {
            Some(certainty) => {
                let identity = identity(&finding.label, finding.finding, finding.site, finding.laterality);
                let tracking = derivation.tracking(&identity, numbers.next(&identity));
                groups.push(study_group(finding, certainty, tracking, source, provenance)?);
            }
            None => evaluations.push(evaluation(finding)),
        }
    }
    let mut items = beginning(findings, source, provenance);
    if !groups.is_empty() {
        items.push(container(IMAGING_MEASUREMENTS, groups));
    }
    if !evaluations.is_empty() {
        items.push(container(QUALITATIVE_EVALUATIONS, evaluations));
    }
    let root = (IMAGING_MEASUREMENT_REPORT, "1500", items.as_slice());
    finish(Kind::Results, root, source, provenance, completion, []).map(Some)
}

/// TID 1500 up to the measurements: language, observer, procedure, and the images that were analysed (TID 1600).
fn beginning(findings: &CodedFindings, source: &Source<'_>, provenance: &Provenance) -> Vec<Item> {
    let analysed = source.evidence.iter().map(Place::from);
    let shown = findings.localized.iter().map(|finding| finding.region.place());
    let images: std::collections::BTreeSet<Place<'_>> = analysed.chain(shown).collect();
    let entries = images.iter().map(|image| Item::image_entry(image.class, image.instance, None)).collect();
    let mut items = language_and_observer(provenance);
    items.push(procedure_reported(source));
    items.push(container(IMAGE_LIBRARY, vec![container(IMAGE_LIBRARY_GROUP, entries)]));
    items
}

/// What identifies a finding across versions of a report.
fn identity(label: &str, finding: Code, site: Option<Code>, laterality: Option<Code>) -> [&str; 5] {
    let value = |code: Option<Code>| code.map_or("", |code| code.value);
    [label, finding.scheme, finding.value, value(site), value(laterality)]
}

/// Tells findings apart that are otherwise the same.
#[derive(Default)]
struct Numbering<'a>(BTreeMap<[&'a str; 5], usize>);

impl<'a> Numbering<'a> {
    fn next(&mut self, identity: &[&'a str; 5]) -> usize {
        let count = self.0.entry(*identity).or_default();
        *count += 1;
        *count - 1
    }
}

/// TID 1410 (Planar ROI Measurements); TID 1501 for a point or a line, which are no area.
fn localized_group(
    finding: &LocalizedFinding,
    tracking: Uid,
    provenance: &Provenance,
    heat_map: Option<&Document>,
) -> Result<Item, Error> {
    let shape = &finding.region.shape;
    if !shape.is_drawable() || finding.region.frame == Some(0) {
        return Err(Error::Region);
    }
    let mut group = head(&finding.label, tracking, finding.finding);
    let on_a_line = matches!(shape, Shape::Line(_));
    match shape {
        Shape::Polygon(_) | Shape::Ellipse { .. } => group.push(Item::region(IMAGE_REGION, &finding.region)),
        Shape::Point(_) => group.push(Item::region(CENTER, &finding.region)),
        // The line is drawn with the length that was measured on it.
        Shape::Line(_) if finding.measurements.iter().any(|measured| measured.name == LENGTH) => {}
        Shape::Line(_) => return Err(Error::Region),
    }
    if let (Some(heat_map), false) = (heat_map, on_a_line) {
        group.push(Item::contains(ILLUSTRATION_OF_ROI, image(Place::from(heat_map), None)));
    }
    group.extend(site(finding.site, finding.laterality));
    for measured in &finding.measurements {
        let mut number = number(measured, &measured.trust.to_string(), provenance)?;
        if on_a_line && measured.name == LENGTH {
            number.children.insert(0, Item::region(PATH, &finding.region).inferred());
        }
        group.push(number);
    }
    if let Some(certainty) = finding.certainty {
        group.push(certainty_item(certainty, provenance)?);
    }
    let template = if matches!(shape, Shape::Polygon(_) | Shape::Ellipse { .. }) { "1410" } else { "1501" };
    Ok(container(MEASUREMENT_GROUP, group).of_template(template))
}

/// TID 1501 (Measurement Group) without a region: a finding, the probability that it is there, and on what that rests.
fn study_group(
    finding: &StudyFinding,
    certainty: Certainty,
    tracking: Uid,
    source: &Source<'_>,
    provenance: &Provenance,
) -> Result<Item, Error> {
    let mut group = head(&finding.label, tracking, finding.finding);
    group.extend(site(finding.site, finding.laterality));
    group.push(certainty_item(certainty, provenance)?);
    let place = |item: &EvidenceItem| image(Place::from(item), None);
    // The images that were analysed, each once.
    let mut seen = std::collections::BTreeSet::new();
    let sources = source.evidence.iter().filter(|item| seen.insert(&item.sop_instance_uid));
    group.extend(sources.map(|item| Item::contains(SOURCE_OF_MEASUREMENT, place(item))));
    Ok(container(MEASUREMENT_GROUP, group).of_template("1501"))
}

/// The rows that both groups begin with: how the finding is followed, and what it is.
fn head(label: &str, tracking: Uid, finding: Code) -> Vec<Item> {
    let label = one_line(label);
    let label = if label.is_empty() { finding.meaning.to_owned() } else { label };
    vec![
        Item::context(TRACKING_IDENTIFIER, content::text(&label)),
        Item::context(TRACKING_UNIQUE_IDENTIFIER, ItemValue::Uid(tracking)),
        Item::contains(FINDING, code(finding)),
    ]
}

/// Finding Site with its Laterality.
fn site(site: Option<Code>, laterality: Option<Code>) -> Option<Item> {
    let mut item = Item::modifier(FINDING_SITE, code(site?));
    item.children.extend(laterality.map(|side| Item::modifier(LATERALITY, code(side))));
    Some(item)
}

fn image(place: Place<'_>, frame: Option<u32>) -> ItemValue {
    ItemValue::Image { class: place.class.clone(), instance: place.instance.clone(), frame }
}

/// A number with what made it (TID 4019).
fn number(measured: &Measurement, how: &str, provenance: &Provenance) -> Result<Item, Error> {
    if !measured.value.is_finite() {
        return Err(Error::Number);
    }
    let mut item = Item::number(measured);
    item.children = algorithm(how, provenance);
    Ok(item)
}

fn certainty_item(certainty: Certainty, provenance: &Provenance) -> Result<Item, Error> {
    if !(0.0..=100.0).contains(&certainty.percent) {
        return Err(Error::Number);
    }
    // A tenth of a percent is more than any calibration tells apart.
    let value = (certainty.percent * 10.0).round() / 10.0;
    let measured = Measurement { name: CERTAINTY_OF_FINDING, value, unit: PERCENT, trust: Trust::StatedByModel };
    number(&measured, "calibrated probability", provenance)
}

/// TID 4019: Algorithm Identification.
fn algorithm(how: &str, provenance: &Provenance) -> Vec<Item> {
    let version = if provenance.model_digest.is_empty() {
        provenance.model_version.clone()
    } else {
        format!("{} ({})", provenance.model_version, provenance.model_digest)
    };
    let parameter = |value: &str| Item::modifier(ALGORITHM_PARAMETERS, content::text(value));
    let mut items = vec![
        Item::modifier(ALGORITHM_NAME, content::text(&provenance.model_name)),
        Item::modifier(ALGORITHM_VERSION, content::text(&version)),
        parameter(how),
    ];
    if !provenance.settings.trim().is_empty() {
        items.push(parameter(&format!("prompt {}; {}", provenance.prompt_id, provenance.settings)));
    }
    items.push(Item::modifier(ALGORITHM_FAMILY, code(ARTIFICIAL_INTELLIGENCE)));
    items
}

/// A finding under Qualitative Evaluations: what, whether, and where.
fn evaluation(finding: &StudyFinding) -> Item {
    let presence = match finding.presence {
        Presence::Present => PRESENT,
        Presence::Absent => ABSENT,
    };
    let mut item = Item::contains(FINDING, code(finding.finding));
    item.children.push(Item::modifier(PRESENCE, code(presence)));
    item.children.extend(site(finding.site, finding.laterality));
    item
}
