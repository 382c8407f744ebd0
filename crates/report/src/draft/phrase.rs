//! Our own sentence for a recognised statement.

use super::{Finding, Grid, Presence, Side, Size, Zone};
use crate::{
    structure::{Certainty, Sentence, Statement},
    vocabulary::{Concept, Grade, Place, Site, Urgency},
};

/// A recognised statement before it is a finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fact {
    pub(super) concept: Concept,
    pub(super) presence: Presence,
    pub(super) side: Option<Side>,
    pub(super) zone: Option<Zone>,
    pub(super) size: Option<Size>,
}

impl Fact {
    pub(super) fn finding(self, sentence: &Sentence, attention: Option<Grid>) -> Finding {
        let Self { concept, presence, side, zone, size } = self;
        // Both readers understood the sentence: what the wider one saw besides is kept where they agree.
        let agrees = |it: &&Statement| it.concept == concept && it.presence == presence;
        let evidence = sentence.statements.iter().find(agrees).map(|it| it.evidence.clone()).unwrap_or_default();
        Finding {
            concept,
            presence,
            side,
            zone,
            size,
            sites: zone.and_then(site_of).into_iter().collect(),
            certainty: Certainty::Certain,
            measurements: Vec::new(),
            change: None,
            evidence,
            text: self.text(),
            range: sentence.range.clone(),
            confidence: sentence.confidence,
            attention,
        }
    }

    /// "Large nodule in the left upper zone.", "No right pleural effusion.", "Endotracheal tube in place."
    pub(super) fn text(self) -> String {
        let row = self.concept.row();
        if row.urgency == Urgency::Normal {
            return "The lungs are clear.".to_owned();
        }
        let in_lung = row.place == Place::Lung;
        let mut words: Vec<String> = Vec::new();
        if self.presence == Presence::Absent {
            words.push("no".to_owned());
        }
        words.extend(self.size.map(|size| size_word(size, row.grade).to_owned()));
        words.extend(self.side.filter(|_| !in_lung).map(|side| side_word(side).to_owned()));
        words.push(row.name.to_owned());
        if in_lung && (self.side.is_some() || self.zone.is_some()) {
            words.push(where_in_lung(self.side, self.zone));
        }
        if row.urgency == Urgency::Device && self.presence == Presence::Present {
            words.push("in place".to_owned());
        }
        let mut text = words.join(" ") + ".";
        text[..1].make_ascii_uppercase();
        text
    }
}

fn where_in_lung(side: Option<Side>, zone: Option<Zone>) -> String {
    let zone = zone.map_or("lung", zone_words);
    match side {
        Some(Side::Bilateral) => format!("in both {zone}s"),
        Some(side) => format!("in the {} {zone}", side_word(side)),
        None => format!("in the {zone}, side not stated"),
    }
}

pub(super) fn side_word(side: Side) -> &'static str {
    match side {
        Side::Left => "left",
        Side::Right => "right",
        Side::Bilateral => "bilateral",
    }
}

fn site_of(zone: Zone) -> Option<Site> {
    Site::named(match zone {
        Zone::Upper => "upper_zone",
        Zone::Mid => "mid_zone",
        Zone::Lower => "lower_zone",
        Zone::UpperLobe => "upper_lobe",
        Zone::MiddleLobe => "middle_lobe",
        Zone::LowerLobe => "lower_lobe",
    })
}

fn zone_words(zone: Zone) -> &'static str {
    match zone {
        Zone::Upper => "upper zone",
        Zone::Mid => "mid zone",
        Zone::Lower => "lower zone",
        Zone::UpperLobe => "upper lobe",
        Zone::MiddleLobe => "middle lobe",
        Zone::LowerLobe => "lower lobe",
    }
}

fn size_word(size: Size, grade: Grade) -> &'static str {
    match (size, grade) {
        (Size::Small, Grade::Severity) => "mild",
        (Size::Small, _) => "small",
        (Size::Moderate, _) => "moderate",
        (Size::Large, Grade::Severity) => "severe",
        (Size::Large, _) => "large",
    }
}
