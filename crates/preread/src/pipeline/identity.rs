//! Whose images a study holds: instances of different patients under one Study Instance UID are never in one request nor
//! in one report.
//!
//! What tells patients apart is kept as keyed digests of their attributes alone, so that it can be compared, stored and
//! logged without saying who they are.

use std::{collections::BTreeSet, fmt, str::FromStr};

use dataset::{Header, Meaning, Tag, tags};
use sha2::{Digest, Sha256};

/// A digest of one attribute of a patient, as it is compared; nothing where the attribute states nothing.
type Part = Option<u64>;

/// Who an instance says its patient is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    id: Part,
    issuer: Part,
    birth_date: Part,
    sex: Part,
    /// The alphabetic, ideographic and phonetic groups of the name (PS3.5 section 6.2.1).
    name: [Part; 3],
}

/// How many different identities of a study are compared with each other; with more, each is a patient of its own.
const MOST_IDENTITIES: usize = 64;

impl Identity {
    /// The identity that an instance states. Two are comparable when they are of one study.
    pub(crate) fn of(header: &Header) -> Self {
        let part = |tag: Tag, normal: fn(&str) -> Option<String>| -> Part {
            let raw = as_compared(header, header.raw(tag)?);
            match decoded(header, &raw) {
                Some(text) => normal(&text).map(|text| digest(header, tag, 0, text.as_bytes())),
                // What cannot be decoded is the same as the same bytes, and as nothing else.
                None => Some(digest(header, tag, 9, &raw)),
            }
        };
        Self {
            id: part(tags::PATIENT_ID, stated),
            issuer: part(tags::ISSUER_OF_PATIENT_ID, stated),
            birth_date: part(tags::PATIENT_BIRTH_DATE, date),
            sex: part(tags::PATIENT_SEX, sex),
            name: name(header),
        }
    }

    /// Whether two instances cannot be of one patient. With an id, the name decides nothing: it is written in many ways.
    pub(crate) fn contradicts(&self, other: &Self) -> bool {
        let differ = |one: Part, other: Part| one.is_some() && other.is_some() && one != other;
        let demographics = differ(self.birth_date, other.birth_date) || differ(self.sex, other.sex);
        if self.id.is_some() && other.id.is_some() {
            return demographics || self.id != other.id || differ(self.issuer, other.issuer);
        }
        demographics || self.differs_in_name(other)
    }

    fn differs_in_name(&self, other: &Self) -> bool {
        let both = || self.name.iter().zip(&other.name).filter(|(one, other)| one.is_some() && other.is_some());
        let is_stated = |name: &[Part; 3]| name.iter().any(Option::is_some);
        // Two names that have no group in common cannot be compared, and so not be called one.
        both().any(|(one, other)| one != other)
            || (both().next().is_none() && is_stated(&self.name) && is_stated(&other.name))
    }

    /// Whether archives file what has one identity under the patient of the other.
    pub(crate) fn is_filed_with(&self, other: &Self) -> bool {
        let differ = |one: Part, other: Part| one.is_some() && other.is_some() && one != other;
        match (self.id, other.id) {
            (Some(id), Some(of_other)) => id == of_other && !differ(self.issuer, other.issuer),
            (None, None) => !self.contradicts(other),
            _ => false,
        }
    }
}

/// Fields separated by colons, each a digest in hexadecimal or nothing.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [self.id, self.issuer, self.birth_date, self.sex].into_iter().chain(self.name);
        let words: Vec<String> = parts.map(|part| part.map(|it| format!("{it:016x}")).unwrap_or_default()).collect();
        f.write_str(&words.join(":"))
    }
}

impl FromStr for Identity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let part = |word: &str| match word {
            "" => Ok(None),
            digits => u64::from_str_radix(digits, 16).map(Some).map_err(|_| ()),
        };
        let parts: Vec<Part> = text.split(':').map(part).collect::<Result<_, ()>>()?;
        let [id, issuer, birth_date, sex, first, second, third] = parts.as_slice() else { return Err(()) };
        let name = [*first, *second, *third];
        Ok(Self { id: *id, issuer: *issuer, birth_date: *birth_date, sex: *sex, name })
    }
}

/// The attributes by which patients are told apart whose bytes have no meaning in the character set that is declared, or
/// in none where none is. Other bytes for which none is declared are compared as they are.
pub(super) fn undecodable(header: &Header) -> Vec<Tag> {
    let declared = declares_characters(header);
    let fails = |tag: &Tag| {
        let Some(raw) = header.raw(*tag) else { return false };
        let is_decoded = || header.character_set().decode_exactly(&as_compared(header, raw)).is_some();
        header.character_set().clean(trimmed(raw), false).meaning == Meaning::None || (declared && !is_decoded())
    };
    let all = [tags::PATIENT_NAME, tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID];
    all.into_iter().filter(fails).collect()
}

/// Whether Specific Character Set (0008,0005) has a value.
pub(super) fn declares_characters(header: &Header) -> bool {
    header.raw(tags::SPECIFIC_CHARACTER_SET).is_some_and(|value| !trimmed(value).is_empty())
}

/// A value as it is compared: without padding, and without control characters that say nothing. One above 127 may have
/// been a letter of a set that its sender did not name, and stays.
fn as_compared(header: &Header, value: &[u8]) -> Vec<u8> {
    let cleaned = header.character_set().clean(trimmed(value), false);
    if cleaned.upper_dropped { trimmed(value).to_vec() } else { cleaned.bytes }
}

/// A value as text; nothing where it would be a guess. Where a byte is no character, the decoder knows letters of sets that
/// are not declared.
fn decoded(header: &Header, value: &[u8]) -> Option<String> {
    let set = header.character_set();
    (set.clean(value, false).meaning != Meaning::None).then(|| set.decode_exactly(value)).flatten()
}

fn trimmed(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|byte| !matches!(byte, 0 | b' ')).map_or(0, |last| last + 1);
    value[..end].trim_ascii_start()
}

fn stated(text: &str) -> Option<String> {
    let text = text.trim_matches([' ', '\0']);
    (!text.is_empty()).then(|| text.to_owned())
}

/// A date, also in the form of before 1993 (PS3.5 table 6.2-1). Zeros are no date.
fn date(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|it| !matches!(it, '.' | '-' | '/' | ' ' | '\0')).collect();
    (!digits.chars().all(|it| it == '0')).then_some(digits)
}

/// Patient's Sex is M, F or O; what says that it is not known states nothing.
fn sex(text: &str) -> Option<String> {
    let word = stated(text)?.to_uppercase();
    (!matches!(word.as_str(), "U" | "UNKNOWN" | "N" | "?")).then_some(word)
}

/// The groups of the name, without regard to case, padding and delimiters at the end.
fn name(header: &Header) -> [Part; 3] {
    let mut parts = [None; 3];
    let Some(raw) = header.raw(tags::PATIENT_NAME).map(|raw| as_compared(header, raw)) else { return parts };
    let Some(text) = decoded(header, &raw) else {
        parts[0] = Some(digest(header, tags::PATIENT_NAME, 9, &raw));
        return parts;
    };
    for (index, (part, group)) in parts.iter_mut().zip(text.split('=')).enumerate() {
        let mut components: Vec<String> = group.split('^').map(normal_component).collect();
        while components.last().is_some_and(String::is_empty) {
            components.pop();
        }
        let index = u8::try_from(index).unwrap_or(u8::MAX);
        *part = (!components.is_empty())
            .then(|| digest(header, tags::PATIENT_NAME, index, components.join("^").as_bytes()));
    }
    parts
}

fn normal_component(component: &str) -> String {
    let words: Vec<&str> = component.split([' ', '\0']).filter(|word| !word.is_empty()).collect();
    words.join(" ").to_uppercase()
}

/// The study's UID goes into it, so that one patient has other digests in every study.
fn digest(header: &Header, tag: Tag, part: u8, value: &[u8]) -> u64 {
    let mut hash = Sha256::new();
    hash.update(header.study_instance_uid.as_str());
    hash.update([0, part]);
    hash.update(tag.group().to_le_bytes());
    hash.update(tag.element().to_le_bytes());
    hash.update(value);
    let bytes = hash.finalize();
    u64::from_le_bytes(bytes.first_chunk::<8>().copied().unwrap_or_default())
}

/// Which group each instance is in, numbered from 0 in the order in which they first come. Instances are in one group when
/// nothing contradicts that they are of one patient; one that would fit two that contradict each other is in neither.
pub(crate) fn groups(identities: &[Identity]) -> Vec<usize> {
    let mut distinct: Vec<Identity> = Vec::new();
    let index_of: Vec<usize> = identities
        .iter()
        .map(|identity| {
            distinct.iter().position(|known| known == identity).unwrap_or_else(|| {
                distinct.push(*identity);
                distinct.len() - 1
            })
        })
        .collect();
    let fit = |one: usize, other: usize| !distinct[one].contradicts(&distinct[other]);
    let comparable = distinct.len() <= MOST_IDENTITIES;
    let fits_two = |one: usize| {
        let fitting: Vec<usize> = (0..distinct.len()).filter(|other| fit(one, *other)).collect();
        fitting.iter().any(|a| fitting.iter().any(|b| !fit(*a, *b)))
    };
    let is_certain: Vec<bool> = (0..distinct.len()).map(|index| comparable && !fits_two(index)).collect();
    let mut group_of: Vec<usize> = Vec::new();
    let mut count = 0;
    for index in 0..distinct.len() {
        let earlier = (0..index).find(|other| is_certain[index] && is_certain[*other] && fit(index, *other));
        group_of.push(earlier.map_or_else(
            || {
                count += 1;
                count - 1
            },
            |earlier| group_of[earlier],
        ));
    }
    index_of.into_iter().map(|index| group_of[index]).collect()
}

/// Whose images count, by what a person said: kept with the study as a word without a patient's data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Acceptance {
    chosen: BTreeSet<Identity>,
    others: BTreeSet<Identity>,
}

/// What is to be done with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It counts.
    Chosen,
    /// It was known, and does not count.
    Other,
    /// Nobody has said anything of it yet, or nothing that still holds.
    Unknown,
}

impl Acceptance {
    /// That of the group `number`, from 0, of all that there are.
    pub(crate) fn of(identities: &[Identity], number: usize) -> Self {
        let groups = groups(identities);
        let of = |wanted: bool| {
            let those = identities.iter().zip(&groups).filter(|(_, group)| (**group == number) == wanted);
            those.map(|(identity, _)| *identity).collect()
        };
        Self { chosen: of(true), others: of(false) }
    }

    fn standing<'a>(&self, mut group: impl Iterator<Item = &'a Identity> + Clone) -> Standing {
        let has_chosen = group.clone().any(|identity| self.chosen.contains(identity));
        match (has_chosen, group.any(|identity| self.others.contains(identity))) {
            (true, false) => Standing::Chosen,
            (false, true) => Standing::Other,
            _ => Standing::Unknown,
        }
    }
}

impl fmt::Display for Acceptance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |set: &BTreeSet<Identity>| set.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        write!(f, "{}|{}", list(&self.chosen), list(&self.others))
    }
}

impl FromStr for Acceptance {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let set = |list: &str| -> Result<BTreeSet<Identity>, ()> {
            list.split(',').filter(|word| !word.is_empty()).map(str::parse).collect()
        };
        let (chosen, others) = text.split_once('|').ok_or(())?;
        Ok(Self { chosen: set(chosen)?, others: set(others)? })
    }
}

/// Which instances are to be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Those of which this is true: all, or those of the patient that a person accepted.
    These(Vec<bool>),
    /// A person must say; the group of each. There may be one alone: where a person accepted another one, it does not
    /// count because that one went away.
    Open(Vec<usize>),
}

/// Which instances of a study are to be read, by whose they are and by what a person said of that.
pub(super) fn choose(identities: &[Identity], accepted: Option<&Acceptance>) -> Choice {
    let groups = groups(identities);
    let count = groups.iter().max().map_or(0, |last| last + 1);
    let Some(accepted) = accepted else {
        return if count <= 1 { Choice::These(vec![true; identities.len()]) } else { Choice::Open(groups) };
    };
    if count == 0 {
        return Choice::These(Vec::new());
    }
    let of_group = |group: usize| {
        identities.iter().zip(&groups).filter(move |(_, of)| **of == group).map(|(identity, _)| identity)
    };
    let standings: Vec<Standing> = (0..count).map(|group| accepted.standing(of_group(group))).collect();
    let is_chosen = |standing: &&Standing| **standing == Standing::Chosen;
    if standings.contains(&Standing::Unknown) || standings.iter().filter(is_chosen).count() != 1 {
        return Choice::Open(groups);
    }
    Choice::These(groups.iter().map(|group| standings[*group] == Standing::Chosen).collect())
}

/// How many ways of writing the patient's name there are.
pub(super) fn names(identities: &[Identity]) -> usize {
    identities
        .iter()
        .map(|identity| identity.name)
        .filter(|name| name.iter().any(Option::is_some))
        .collect::<BTreeSet<_>>()
        .len()
}

#[cfg(test)]
mod tests;
