//! Whether the report agrees with itself.

use super::{Case, Found, recognised::sides_overlap};
use crate::{
    draft::{Presence, Side},
    structure::{Certainty, SectionKind, Sentence, Statement, Status},
    vocabulary::{Sort, Urgency},
};

type Placed<'a> = (usize, &'a Sentence, &'a Statement);

fn statements<'a>(case: &'a Case<'_>, impression: bool) -> impl Iterator<Item = Placed<'a>> {
    let wanted = move |sentence: &Sentence| (sentence.section == SectionKind::Impression) == impression;
    case.of_images().filter(move |(_, sentence)| wanted(sentence)).flat_map(|(number, sentence)| {
        let current = sentence.statements.iter().filter(|it| it.status == Status::Current);
        current.map(move |statement| (number, sentence, statement))
    })
}

/// Whether two statements about one concept are about places that meet.
fn meet(a: &Statement, b: &Statement) -> bool {
    let sites = a.sites.is_empty() || b.sites.is_empty() || a.sites.iter().any(|site| b.sites.contains(site));
    let sizes = a.size.is_none() || b.size.is_none() || a.size == b.size;
    a.concept == b.concept && sides_overlap(a.side, b.side) && sites && sizes
}

/// What is normal as a whole, and what says that it is not.
const OPPOSITE: &[(&str, &str)] = &[
    ("cardiomegaly", "heart"),
    ("hepatomegaly", "liver"),
    ("splenomegaly", "spleen"),
    ("prostate_enlargement", "prostate"),
];

/// "Normal" of a place, and a finding there, or of its size and an enlarged one.
fn normal_is_denied(normal: &Sentence, said: &Statement, finding: &Statement) -> bool {
    if !said.concept.is("normal_appearance")
        || !finding.is_positive()
        || finding.change.is_some_and(|it| it == crate::Change::Resolved)
    {
        return false;
    }
    let sides = sides_overlap(said.side, finding.side);
    said.sites.iter().any(|site| {
        let enlarged = OPPOSITE.iter().any(|(concept, place)| finding.concept.is(concept) && site.id() == *place);
        let there = !normal.marks.aspect && finding.sites.contains(site);
        sides && (enlarged || there)
    })
}

/// Present and absent at one place within the same part of the report.
pub(super) fn contradictions(case: &Case<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for impression in [false, true] {
        let all: Vec<Placed<'_>> = statements(case, impression).collect();
        for (number, sentence, statement) in &all {
            let contradicts = |(other_number, _, other): &&Placed<'_>| {
                // "No other nodules" leaves room for the one that was named; "no left effusion" says nothing of one on no side.
                let of_more = sentence.marks.further || statement.side.is_some() && other.side.is_none();
                let opposed = statement.presence == Presence::Absent
                    && !of_more
                    && other.presence == Presence::Present
                    && other.concept.sort() != Sort::Normal
                    && meet(statement, other);
                number != other_number && (opposed || normal_is_denied(sentence, statement, other))
            };
            if let Some((_, _, other)) = all.iter().find(contradicts) {
                found.push(Found::at(
                    *number,
                    format!("another sentence says the opposite of {}", other.concept.name()),
                ));
            }
        }
    }
    found
}

/// Said in the impression and denied in the findings, or the other way round.
pub(super) fn impression_conflict(case: &Case<'_>) -> Vec<Found> {
    let findings: Vec<Placed<'_>> = statements(case, false).collect();
    let mut found = Vec::new();
    for (number, sentence, statement) in statements(case, true) {
        let agrees = |other: &Statement| other.presence == statement.presence && meet(statement, other);
        if findings.iter().any(|(_, _, other)| agrees(other)) {
            continue;
        }
        let opposed = |(_, its, other): &&Placed<'_>| {
            let opposite =
                other.presence != statement.presence && meet(statement, other) && other.concept.sort() != Sort::Normal;
            opposite || normal_is_denied(its, other, statement) || normal_is_denied(sentence, statement, other)
        };
        if let Some((_, _, other)) = findings.iter().find(opposed) {
            let what = other.concept.name();
            found.push(Found::at(
                number,
                format!("the findings say the opposite of what the impression says of {what}"),
            ));
        }
    }
    found.extend(normal_impression(case, &findings));
    found
}

/// "No acute abnormality" in the impression, and a certain finding that is one.
fn normal_impression(case: &Case<'_>, findings: &[Placed<'_>]) -> Option<Found> {
    let is_normal = |sentence: &Sentence| {
        let text = sentence.text.to_lowercase();
        let all = [
            "normal study",
            "normal examination",
            "no acute",
            "no abnormality",
            "no significant abnormality",
            "unauffälliger befund",
            "normalbefund",
        ];
        sentence.section == SectionKind::Impression
            && sentence.statements.is_empty()
            && all.iter().any(|it| text.contains(it))
    };
    let (number, _) = case.of_images().find(|(_, sentence)| is_normal(sentence))?;
    let acute = |(_, _, it): &&Placed<'_>| {
        it.is_positive() && it.certainty >= Certainty::Probable && it.concept.urgency() == Urgency::Critical
    };
    let (_, _, finding) = findings.iter().find(acute)?;
    Some(Found::at(number, format!("the impression is normal, and the findings name {}", finding.concept.name())))
}

/// A finding of the impression in a report whose findings say nothing of the kind.
pub(super) fn impression_unsupported(case: &Case<'_>) -> Vec<Found> {
    let findings: Vec<Placed<'_>> = statements(case, false).collect();
    if findings.is_empty() {
        return Vec::new();
    }
    let supported = |statement: &Statement| {
        findings.iter().any(|(_, _, other)| {
            let same_part = other.concept.row().regions.meet(statement.concept.row().regions);
            other.concept == statement.concept || other.is_positive() && same_part
        })
    };
    statements(case, true)
        .filter(|(_, _, it)| it.is_positive() && !supported(it))
        .map(|(number, _, it)| Found::at(number, format!("the findings do not mention {}", it.concept.name())))
        .collect()
}

pub(super) fn impression_missing(case: &Case<'_>) -> Vec<Found> {
    let said: Vec<Placed<'_>> = statements(case, true).collect();
    if case.structure().section(SectionKind::Impression).next().is_none() {
        return Vec::new();
    }
    statements(case, false)
        .filter(|(_, _, it)| {
            it.is_positive() && it.certainty >= Certainty::Probable && it.concept.urgency() == Urgency::Critical
        })
        .filter(|(_, _, it)| !said.iter().any(|(_, _, other)| other.concept == it.concept))
        .map(|(number, _, it)| Found::at(number, format!("the impression does not mention {}", it.concept.name())))
        .collect()
}

/// One finding on the left in one place of the report and on the right in another, or both in one breath.
pub(super) fn side_conflict(case: &Case<'_>) -> Vec<Found> {
    let mut found: Vec<Found> = case
        .of_images()
        .filter(|(_, sentence)| sentence.marks.side_clash)
        .map(|(number, _)| Found::at(number, "the sentence names both sides for one thing"))
        .collect();
    let findings: Vec<Placed<'_>> =
        statements(case, false).filter(|(_, _, it)| it.is_positive() || it.concept.sort() == Sort::Device).collect();
    // "A filling defect in the left artery is consistent with embolism": the only side of a sentence is its findings'.
    let side_of = |sentence: &Sentence, statement: &Statement| {
        let only = match (sentence.marks.left, sentence.marks.right) {
            (true, false) => Some(Side::Left),
            (false, true) => Some(Side::Right),
            _ => None,
        };
        statement.side.or(only)
    };
    for (number, sentence, statement) in statements(case, true) {
        let said = side_of(sentence, statement).filter(|side| *side != Side::Bilateral);
        let Some(side) = said.filter(|_| statement.presence == Presence::Present) else { continue };
        let same = findings.iter().filter(|(_, _, it)| it.concept == statement.concept);
        let sides: Vec<Option<Side>> = same.map(|(_, its, it)| side_of(its, it)).collect();
        let fits = |it: &Option<Side>| it.is_none_or(|it| it == side || it == Side::Bilateral);
        if !sides.is_empty() && !sides.iter().any(fits) {
            found.push(Found::at(number, format!("{} is on the other side in the findings", statement.concept.name())));
        }
    }
    found
}
