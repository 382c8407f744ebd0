//! What a measurement report says: findings that can be shown at their place, and what is known of the study as a whole.

use std::{collections::BTreeMap, fmt};

use dataset::Uid;

use crate::{
    Code, Concept, Draft, EvidenceItem, Finding, Grid,
    codes::{BOTH_SIDES, LEFT, RIGHT},
    draft::{Presence, Side},
    references::Place,
};

/// A finding that can be shown at its place.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalizedFinding {
    /// Tracking Identifier (112039,DCM), such as "Nodule 1".
    pub label: String,
    /// What it is. A finding without a code stays in the text report.
    pub finding: Code,
    /// Finding Site (363698007,SCT).
    pub site: Option<Code>,
    /// Laterality (272741003,SCT) of the site; never without one.
    pub laterality: Option<Code>,
    /// Where it was seen.
    pub region: Region,
    /// What was measured.
    pub measurements: Vec<Measurement>,
    /// How sure the model was that it is there.
    pub certainty: Option<Certainty>,
}

/// A place in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// Series Instance UID (0020,000E) of the image.
    pub series_instance_uid: Uid,
    /// SOP Class UID (0008,0016) of the image.
    pub sop_class_uid: Uid,
    /// SOP Instance UID (0008,0018) of the image.
    pub sop_instance_uid: Uid,
    /// The frame, counted from 1, of a multi-frame image.
    pub frame: Option<u32>,
    /// Its outline.
    pub shape: Shape,
}

impl Region {
    /// An outline in an image; `frame` counts from 1.
    pub fn new(image: &EvidenceItem, frame: Option<u32>, shape: Shape) -> Self {
        Self {
            series_instance_uid: image.series_instance_uid.clone(),
            sop_class_uid: image.sop_class_uid.clone(),
            sop_instance_uid: image.sop_instance_uid.clone(),
            frame,
            shape,
        }
    }

    pub(crate) fn place(&self) -> Place<'_> {
        Place { series: &self.series_instance_uid, class: &self.sop_class_uid, instance: &self.sop_instance_uid }
    }
}

/// Column and row in pixels of the source image; (0, 0) is the outer corner of the first pixel, whose centre is
/// (0.5, 0.5) (PS3.3 C.18.6.1.2).
pub type Place2D = [f32; 2];

/// An outline in an image.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// The corners of an area, at least three; the last is joined to the first.
    Polygon(Vec<Place2D>),
    /// The ends of the longer and of the shorter axis.
    Ellipse {
        /// Ends of the longer axis.
        major: [Place2D; 2],
        /// Ends of the shorter axis.
        minor: [Place2D; 2],
    },
    /// A single point.
    Point(Place2D),
    /// From one point to another: what a length was measured on.
    Line([Place2D; 2]),
}

impl Shape {
    /// Graphic Type (0070,0023) of a spatial coordinate and its points, closed where it is an area.
    pub(crate) fn graphic(&self) -> (&'static str, Vec<Place2D>) {
        match self {
            Self::Polygon(corners) => {
                let mut points = corners.clone();
                if points.first() != points.last() {
                    points.extend(corners.first());
                }
                ("POLYLINE", points)
            }
            Self::Ellipse { major, minor } => ("ELLIPSE", [*major, *minor].concat()),
            Self::Point(point) => ("POINT", vec![*point]),
            Self::Line(ends) => ("POLYLINE", ends.to_vec()),
        }
    }

    /// Whether it can be drawn: numbers that are some, and corners that enclose an area.
    pub(crate) fn is_drawable(&self) -> bool {
        let (_, points) = self.graphic();
        let distinct = |at: usize| !points[..at].contains(&points[at]);
        let corners = (0..points.len()).filter(|at| distinct(*at)).count();
        let enough = match self {
            Self::Polygon(_) => 3,
            Self::Ellipse { .. } => 4,
            Self::Point(_) => 1,
            Self::Line(_) => 2,
        };
        corners >= enough && points.iter().flatten().all(|number| number.is_finite())
    }
}

/// A number with its unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// What was measured, such as [`crate::codes::DIAMETER`].
    pub name: Code,
    /// The number.
    pub value: f64,
    /// In which unit (UCUM), such as [`crate::codes::MILLIMETRE`].
    pub unit: Code,
    /// How far it can be trusted.
    pub trust: Trust,
}

/// How far a measurement can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Between points in the patient: a slice with Pixel Spacing (0028,0030).
    InPatient,
    /// In the plane of the detector (Imager Pixel Spacing, 0018,1164): the patient's part is smaller.
    AtDetector,
    /// In pixels: the image does not say how large they are.
    InPixels,
    /// The model wrote the number; nothing was measured.
    StatedByModel,
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InPatient => "distance in the patient by Pixel Spacing",
            Self::AtDetector => "distance at the detector, geometric magnification not corrected",
            Self::InPixels => "distance in pixels, the image is not calibrated",
            Self::StatedByModel => "stated by the model, not measured",
        })
    }
}

/// How probable it is that a finding is there, by the model's calibration: 0 to 100. There is no other probability in a
/// document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Certainty {
    /// 0 to 100.
    pub percent: f64,
}

/// What is known of one finding in the study as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct StudyFinding {
    /// Tracking Identifier (112039,DCM), such as "Pleural effusion".
    pub label: String,
    /// What it is.
    pub finding: Code,
    /// There or not.
    pub presence: Presence,
    /// Finding Site (363698007,SCT).
    pub site: Option<Code>,
    /// Laterality (272741003,SCT) of the site; never without one.
    pub laterality: Option<Code>,
    /// The probability that it is there, whatever `presence` says.
    pub certainty: Option<Certainty>,
}

/// Everything that a measurement report says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CodedFindings {
    /// Each in a measurement group with its region.
    pub localized: Vec<LocalizedFinding>,
    /// Of the study as a whole.
    pub study: Vec<StudyFinding>,
}

impl CodedFindings {
    /// What a draft says in codes: each finding that has a code, with its place where `region` knows that of what the model
    /// attended to. What has no code stays in the text report.
    ///
    /// How sure the model was is said only by the calibrated probability of its sentence, and not of one that hedges.
    pub fn of(draft: &Draft, region: impl Fn(&Grid) -> Option<Region>) -> Self {
        let mut coded = Self::default();
        let mut numbers: BTreeMap<Concept, usize> = BTreeMap::new();
        for finding in &draft.findings {
            let Some(code) = finding.concept.code() else { continue };
            let (site, laterality) = site(finding);
            let certainty = certainty(finding);
            let present = finding.presence == Presence::Present;
            let attended = finding.attention.as_ref().filter(|_| present);
            if let Some(region) = attended.and_then(&region).filter(|region| region.shape.is_drawable()) {
                let number = numbers.entry(finding.concept).or_default();
                *number += 1;
                coded.localized.push(LocalizedFinding {
                    label: format!("{} {number}", code.meaning),
                    finding: code,
                    site,
                    laterality,
                    region,
                    measurements: Vec::new(),
                    certainty,
                });
            }
            coded.study.push(StudyFinding {
                label: code.meaning.to_owned(),
                finding: code,
                presence: finding.presence,
                site,
                laterality,
                certainty,
            });
        }
        coded
    }
}

/// Finding Site and its Laterality: the first place that the text names and that has a code, else where such a finding is.
fn site(finding: &Finding) -> (Option<Code>, Option<Code>) {
    let named = finding.sites.iter().find_map(|site| site.code());
    let code = named.or_else(|| finding.concept.default_site()?.code());
    let side = finding.side.filter(|_| code.is_some()).map(|side| match side {
        Side::Left => LEFT,
        Side::Right => RIGHT,
        Side::Bilateral => BOTH_SIDES,
    });
    (code, side)
}

/// The probability that it is there, where it was calibrated and the sentence does not hedge.
fn certainty(finding: &Finding) -> Option<Certainty> {
    let percent = f64::from(finding.confidence?.calibrated?) * 100.0;
    let percent = if finding.presence == Presence::Present { percent } else { 100.0 - percent };
    let hedged = finding.certainty != crate::structure::Certainty::Certain;
    (!hedged).then_some(Certainty { percent: percent.clamp(0.0, 100.0) })
}
