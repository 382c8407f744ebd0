//! From a sentence to what it says, if every word of it is known.

use super::{NormalStatement, Presence, Side, Size, Zone, phrase::Fact};
use crate::vocabulary::{ABSENT, Concept, Grade, NORMAL, NOTHING_ACUTE, Place, Row, Urgency, vocabulary};

/// What a sentence says.
pub(super) enum Reading {
    /// One statement for each concept in it.
    Findings(Vec<Fact>),
    /// The study is normal.
    Normal(NormalStatement),
    /// Something that the vocabulary cannot say.
    Unknown,
}

/// Words that say nothing about a finding.
const FILLERS: &[&str] = &[
    "the",
    "a",
    "an",
    "is",
    "are",
    "was",
    "were",
    "there",
    "this",
    "in",
    "on",
    "at",
    "of",
    "to",
    "for",
    "any",
    "it",
    "evidence",
    "place",
    "situ",
    "sided",
    "side",
    "sized",
    "shows",
    "demonstrates",
];

/// Words that affirm: they say nothing more, except after a list of what is not there.
const AFFIRMATIONS: &[&str] =
    &["seen", "noted", "identified", "visible", "visualized", "detected", "demonstrated", "present"];

const NEGATORS: &[&str] = &["no", "not", "absent", "none", "negative", "neither"];

/// Words of place that add nothing to a side or a zone.
const PLACES: &[&str] = &["lung", "hemithorax", "thorax", "chest"];

/// What stands between two clauses.
#[derive(Clone, Copy, PartialEq)]
enum Link {
    Start,
    Comma,
    And,
    Or,
    But,
    With,
    Without,
}

/// A part of a sentence that speaks of one concept.
struct Clause {
    link: Link,
    words: Vec<String>,
}

/// The words of a clause, sorted out.
#[derive(Default)]
struct Sorted {
    side: Option<Side>,
    zone: Option<Zone>,
    size: Option<(Size, Option<Grade>)>,
    /// Where the negating word stands among the words of the concept: before them all, or not.
    negated: Option<usize>,
    /// Whether a side, zone or size follows the negating word.
    narrowed: bool,
    affirmed: bool,
    rest: Vec<String>,
}

pub(super) fn sentence(text: &str) -> Reading {
    let Some(clauses) = clauses(text) else { return Reading::Unknown };
    let whole: Vec<String> = clauses.iter().flat_map(|clause| clause.words.clone()).collect();
    if clauses.len() == 1 {
        let canonical = canonical(&whole);
        if NORMAL.contains(&canonical.as_str()) {
            return Reading::Normal(NormalStatement::NoAbnormality);
        }
        if NOTHING_ACUTE.contains(&canonical.as_str()) {
            return Reading::Normal(NormalStatement::NothingAcute);
        }
    }
    facts(&clauses).map_or(Reading::Unknown, Reading::Findings)
}

/// Cuts a sentence into clauses; nothing when it has a character that no statement needs, or asks.
fn clauses(text: &str) -> Option<Vec<Clause>> {
    let text = text.trim().trim_end_matches(['.', ';']).to_lowercase();
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | ',' | ':' | '\t');
    if !text.chars().all(known) {
        return None;
    }
    let spaced = text.replace(',', " , ").replace(['-', ':', '\t'], " ");
    // Two sides together are both sides; "and" between them joins no clauses.
    let spaced = spaced.replace("left and right", "bilateral").replace("right and left", "bilateral");
    let mut clauses = vec![Clause { link: Link::Start, words: Vec::new() }];
    for word in spaced.split_whitespace() {
        let link = match word {
            "," => Link::Comma,
            "and" => Link::And,
            "or" | "nor" => Link::Or,
            "but" => Link::But,
            "with" => Link::With,
            "without" => Link::Without,
            _ => {
                clauses.last_mut()?.words.push(singular(word));
                continue;
            }
        };
        match clauses.last_mut() {
            // ", and": the word says more than the comma. A sentence may start with "without".
            Some(open) if open.words.is_empty() => open.link = link,
            _ => clauses.push(Clause { link, words: Vec::new() }),
        }
    }
    (!clauses.iter().any(|clause| clause.words.is_empty())).then_some(clauses)
}

/// The singular, where the vocabulary has it; words that end in s otherwise stay.
fn singular(word: &str) -> String {
    const PLURALS: &[&str] = &[
        "lungs",
        "nodules",
        "masses",
        "consolidations",
        "effusions",
        "tubes",
        "lines",
        "catheters",
        "zones",
        "lobes",
        "fields",
        "fractures",
        "abnormalities",
        "findings",
        "limits",
        "drains",
        "pacemakers",
        "sides",
        "infiltrates",
    ];
    match word {
        "abnormalities" => "abnormality".to_owned(),
        "masses" => "mass".to_owned(),
        _ if PLURALS.contains(&word) => word.trim_end_matches('s').to_owned(),
        _ => word.to_owned(),
    }
}

fn canonical(words: &[String]) -> String {
    let says = |word: &&String| !FILLERS.contains(&word.as_str()) && !AFFIRMATIONS.contains(&word.as_str());
    words.iter().filter(says).map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// One statement for each clause; nothing as soon as one clause cannot be told for certain.
fn facts(clauses: &[Clause]) -> Option<Vec<Fact>> {
    let mut facts = Vec::new();
    // Whether a negating word before its concept reaches on to what is listed after it.
    let mut reaches = false;
    for (number, clause) in clauses.iter().enumerate() {
        let canonical = canonical(&clause.words);
        if let Some((_, concept)) = ABSENT.iter().find(|(words, _)| *words == canonical) {
            if reaches && !matches!(clause.link, Link::But | Link::With) || clause.link == Link::Without {
                return None;
            }
            let concept = Concept::named(concept)?;
            facts.push(Fact { concept, presence: Presence::Absent, side: None, zone: None, size: None });
            reaches = false;
            continue;
        }
        let sorted = sort(&clause.words)?;
        let (row, first_word) = concept(&sorted.rest)?;
        let own = match (clause.link, sorted.negated) {
            (Link::Without, Some(_)) => return None,
            (Link::Without, None) => Some(true),
            (_, Some(at)) => Some(at <= first_word),
            (_, None) => None,
        };
        // "Pneumothorax and effusion are not seen": the word that negates the first stands with the last.
        let last = matches!(clause.link, Link::Comma | Link::And | Link::Or);
        if own == Some(false) && number > 0 && last {
            return None;
        }
        // "The effusion is not small" negates the size and not the effusion.
        if own == Some(false) && sorted.narrowed {
            return None;
        }
        let plain = sorted.side.is_none() && sorted.zone.is_none() && sorted.size.is_none() && !sorted.affirmed;
        let absent = match (own, clause.link) {
            (Some(before), _) => {
                reaches = before;
                true
            }
            (None, Link::Or) if reaches => true,
            (None, Link::Comma) if reaches && plain => true,
            (None, Link::Comma | Link::And) if reaches => return None,
            (None, Link::Or) => return None,
            (None, _) => {
                reaches = false;
                false
            }
        };
        let presence = if absent { Presence::Absent } else { Presence::Present };
        facts.push(fact(row, presence, &sorted)?);
    }
    Some(facts)
}

/// The statement, if its parts go together: no side for the heart, no zone for a pacemaker.
fn fact(row: &Row, presence: Presence, sorted: &Sorted) -> Option<Fact> {
    let mut side = sorted.side;
    if row.urgency == Urgency::Normal {
        if presence == Presence::Absent {
            return None;
        }
        side = side.filter(|side| *side != Side::Bilateral);
    }
    let fits = match row.place {
        Place::Lung => true,
        Place::Side => sorted.zone.is_none(),
        Place::Nowhere => sorted.zone.is_none() && side.is_none(),
    };
    let graded = match sorted.size {
        None => true,
        Some((_, None)) => row.grade != Grade::None,
        Some((_, Some(grade))) => row.grade == grade,
    };
    let size = sorted.size.map(|(size, _)| size);
    (fits && graded).then_some(Fact { concept: row.concept, presence, side, zone: sorted.zone, size })
}

/// Sorts the words of a clause; nothing when it says two sides, zones, sizes or negates twice.
fn sort(words: &[String]) -> Option<Sorted> {
    let mut sorted = Sorted::default();
    let mut at = 0;
    while at < words.len() {
        let word = words[at].as_str();
        if let Some((zone, taken)) = zone(&words[at..]) {
            once(&mut sorted.zone, zone)?;
            sorted.narrowed |= sorted.negated.is_some();
            at += taken;
            continue;
        }
        at += 1;
        sorted.narrowed |= sorted.negated.is_some() && (side(word).is_some() || size(word).is_some());
        if let Some(side) = side(word) {
            if sorted.side != Some(side) {
                once(&mut sorted.side, side)?;
            }
        } else if let Some(size) = size(word) {
            once(&mut sorted.size, size)?;
        } else if NEGATORS.contains(&word) {
            once(&mut sorted.negated, sorted.rest.len())?;
        } else if AFFIRMATIONS.contains(&word) {
            sorted.affirmed = true;
        } else if !FILLERS.contains(&word) {
            sorted.rest.push(word.to_owned());
        }
    }
    Some(sorted)
}

fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}

fn side(word: &str) -> Option<Side> {
    match word {
        "left" => Some(Side::Left),
        "right" => Some(Side::Right),
        "bilateral" | "bilaterally" | "both" => Some(Side::Bilateral),
        _ => None,
    }
}

/// "upper zone", "upper lung zone", "upper lobe" and how many words that took. "Upper" alone is no place.
fn zone(words: &[String]) -> Option<(Zone, usize)> {
    let first = words.first()?.as_str();
    if !matches!(first, "upper" | "mid" | "middle" | "lower") {
        return None;
    }
    let lung = usize::from(words.get(1).is_some_and(|word| word == "lung"));
    let zone = match (first, words.get(1 + lung)?.as_str()) {
        ("upper", "zone" | "field") => Zone::Upper,
        ("mid" | "middle", "zone" | "field") => Zone::Mid,
        ("lower", "zone" | "field") => Zone::Lower,
        ("upper", "lobe") => Zone::UpperLobe,
        ("middle", "lobe") => Zone::MiddleLobe,
        ("lower", "lobe") => Zone::LowerLobe,
        _ => return None,
    };
    Some((zone, 2 + lung))
}

/// The size, and how it was said where that matters.
fn size(word: &str) -> Option<(Size, Option<Grade>)> {
    Some(match word {
        "small" | "tiny" | "trace" | "minimal" => (Size::Small, Some(Grade::Size)),
        "large" => (Size::Large, Some(Grade::Size)),
        "mild" | "mildly" => (Size::Small, Some(Grade::Severity)),
        "severe" | "severely" => (Size::Large, Some(Grade::Severity)),
        "moderate" | "moderately" => (Size::Moderate, None),
        _ => return None,
    })
}

/// The one concept that the words name, and where its first word stands; nothing when a word is left over that is no
/// mere place, or when two concepts are named.
fn concept(words: &[String]) -> Option<(&'static Row, usize)> {
    let own = || vocabulary().iter().filter(|row| row.own);
    let all = || own().flat_map(|row| row.words.iter().map(move |phrase| (row, *phrase)));
    let mut found: Option<(&Row, usize, usize)> = None;
    for (row, phrase) in all() {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        let place = words.windows(phrase.len()).position(|window| window.iter().zip(&phrase).all(|(a, b)| a == b));
        let longer = found.is_none_or(|(_, _, length)| phrase.len() > length);
        if let Some(at) = place.filter(|_| longer) {
            found = Some((row, at, phrase.len()));
        }
    }
    let (row, at, length) = found?;
    let left_over = words[..at].iter().chain(&words[at + length..]);
    let only_places = left_over.clone().all(|word| PLACES.contains(&word.as_str()));
    // "The heart of the lung enlarged" names no place of the heart.
    let may_have_places = row.place != Place::Nowhere || left_over.count() == 0 || row.concept.is("pulmonary_edema");
    (only_places && may_have_places).then_some((row, at))
}
