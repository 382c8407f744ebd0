//! What a report takes over from its source, and in which character set.
//!
//! What says whose study it is comes over byte for byte, whatever it is, or the study has no report. Control characters
//! leave in nothing. What else breaks a rule of its VR is left out, with a note.

use std::{cell::RefCell, collections::BTreeSet};

use dataset::{CharacterSet, Instance, Meaning, Uid, tags};
use dicom_core::{Tag, VR, value::Value as ParsedValue};
use dicom_object::{InMemDicomObject, mem::InMemElement};

use crate::{
    Error,
    elements::{DataSet, Element, Value},
    values::{
        date, has_lines, is_age, is_code_string, is_decimal, is_plain, is_text, keyword, may_be_several, time, trimmed,
        wrong_text,
    },
};

/// What says whose study it is: taken over whatever it is, so that a report is found where its images are.
const IDENTITY: &[Tag] = &[tags::PATIENT_NAME, tags::PATIENT_ID, tags::ISSUER_OF_PATIENT_ID, tags::ACCESSION_NUMBER];

/// In which character set a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The source's, whose values are taken over byte for byte; new text is ASCII, which every set has.
    Source,
    /// ISO_IR 192 (UTF-8); the source's values are transcoded.
    Unicode,
}

impl Policy {
    /// The source's set as long as all new text is ASCII.
    pub(crate) fn for_text<'a>(own: impl IntoIterator<Item = &'a str>) -> Self {
        if own.into_iter().all(str::is_ascii) { Self::Source } else { Self::Unicode }
    }
}

/// Takes values over from a source.
pub(crate) struct Copier<'a> {
    pub(crate) source: &'a Instance,
    pub(crate) policy: Policy,
    notes: RefCell<BTreeSet<String>>,
}

/// Errors when the identity in `source` has bytes without a meaning in its character set: whose study it is would be a
/// guess.
pub(crate) fn require_identity(source: &Instance, policy: Policy) -> Result<(), Error> {
    source.header.require_identity()?;
    for &tag in IDENTITY {
        let meaning = source.header.character_set().clean(source.header.raw(tag).unwrap_or_default(), false).meaning;
        if meaning == Meaning::None || (meaning == Meaning::Undeclared && policy == Policy::Unicode) {
            return Err(Error::Undecodable { keyword: keyword(tag) });
        }
    }
    Ok(())
}

impl<'a> Copier<'a> {
    pub(crate) fn new(source: &'a Instance, policy: Policy) -> Self {
        Self { source, policy, notes: RefCell::default() }
    }

    /// What was not taken over as it stood, one sentence each; never a value.
    pub(crate) fn into_notes(self) -> Vec<String> {
        self.notes.into_inner().into_iter().collect()
    }

    fn note(&self, tag: Tag, what: &str) {
        self.notes.borrow_mut().insert(format!("{}: {what}", keyword(tag)));
    }

    /// Specific Character Set (0008,0005) of the document; nothing for the default repertoire.
    pub(crate) fn character_set(&self) -> Option<Vec<u8>> {
        if self.policy == Policy::Unicode {
            return Some(b"ISO_IR 192".to_vec());
        }
        let declared = trimmed(self.source.header.raw(tags::SPECIFIC_CHARACTER_SET)?);
        let set = self.source.header.character_set();
        let legal = declared.split(|byte| *byte == b'\\').all(is_code_string);
        if legal && set.is_known() {
            return (!declared.is_empty()).then(|| declared.to_vec());
        }
        self.note(
            tags::SPECIFIC_CHARACTER_SET,
            "not a defined term as it stands; only what is known of it was written",
        );
        set.terms().map(String::into_bytes)
    }

    /// A text of the source that is quoted in one of ours: what cannot be read in it is shown as such.
    pub(crate) fn quote(&self, bytes: &[u8]) -> Vec<u8> {
        let cleaned = self.source.header.character_set().clean(bytes, false);
        match self.policy {
            Policy::Source => cleaned.bytes,
            Policy::Unicode => cleaned.text.into_bytes(),
        }
    }

    /// A value in the document's character set, as text.
    pub(crate) fn decode(&self, bytes: &[u8]) -> String {
        match self.policy {
            Policy::Source => self.source.header.character_set().decode(bytes),
            Policy::Unicode => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    /// A text value in the document's character set; nothing, with a note, when it can be no value of its attribute.
    fn text(&self, from: &CharacterSet, (tag, vr): (Tag, VR), bytes: &[u8]) -> Option<Vec<u8>> {
        let cleaned = from.clean(bytes, has_lines(vr));
        match cleaned.dropped {
            0 => {}
            1 => self.note(tag, "a control character was left out"),
            count => self.note(tag, &format!("{count} control characters were left out")),
        }
        let unread = cleaned.meaning == Meaning::None
            || cleaned.meaning == Meaning::Undeclared && self.policy == Policy::Unicode;
        let wrong = if unread {
            Some("bytes without a meaning in its character set")
        } else if IDENTITY.contains(&tag) {
            None
        } else {
            wrong_text(tag, vr, cleaned.text.trim_matches(' '))
        };
        if let Some(wrong) = wrong {
            self.note(tag, &format!("not taken over: {wrong}"));
            return None;
        }
        Some(match self.policy {
            Policy::Source => cleaned.bytes,
            Policy::Unicode => cleaned.text.into_bytes(),
        })
    }

    /// An item of a sequence in the document's character set. An item may declare a set of its own.
    pub(crate) fn convert_item(&self, item: DataSet) -> DataSet {
        self.convert_item_from(self.source.header.character_set(), item)
    }

    fn convert_item_from(&self, outer: &CharacterSet, item: DataSet) -> DataSet {
        let own = item.bytes(tags::SPECIFIC_CHARACTER_SET).map(CharacterSet::declared);
        let from = own.as_ref().unwrap_or(outer);
        let mut converted = DataSet::default();
        for Element { tag, vr, value } in item.elements {
            match value {
                _ if tag == tags::SPECIFIC_CHARACTER_SET => {
                    if let (Policy::Source, Some(terms)) = (self.policy, from.terms()) {
                        converted.put_bytes(tag, vr, terms);
                    }
                }
                Value::Bytes(bytes) => {
                    if let Some(bytes) = self.any(from, (tag, vr), &bytes) {
                        converted.put_bytes(tag, vr, bytes);
                    }
                }
                Value::Items(items) => {
                    converted.put_items(tag, items.into_iter().map(|item| self.convert_item_from(from, item)).collect())
                }
            }
        }
        converted
    }

    /// Takes over a value that may not be absent: zero length when the source has none (type 2).
    pub(crate) fn required(&self, to: &mut DataSet, tag: Tag, vr: VR) {
        to.put_bytes(tag, vr, self.value(tag, vr).unwrap_or_default());
    }

    /// Takes over a value if there is one (type 3).
    pub(crate) fn optional(&self, to: &mut DataSet, tag: Tag, vr: VR) {
        if let Some(bytes) = self.value(tag, vr).filter(|bytes| !trimmed(bytes).is_empty()) {
            to.put_bytes(tag, vr, bytes);
        }
    }

    /// Takes over a sequence if it has items.
    pub(crate) fn sequence(&self, to: &mut DataSet, tag: Tag) {
        let items: Vec<DataSet> = items(self.source, tag)
            .into_iter()
            .map(|item| self.convert_item(item))
            .filter(|item| !item.elements.is_empty())
            .collect();
        if !items.is_empty() {
            to.put_items(tag, items);
        }
    }

    /// Takes over the whole codes of a sequence, if it has any.
    pub(crate) fn code_sequence(&self, to: &mut DataSet, tag: Tag) {
        let codes = self.codes(tag);
        if !codes.is_empty() {
            to.put_items(tag, codes);
        }
    }

    /// The source's whole codes at `tag`.
    pub(crate) fn codes(&self, tag: Tag) -> Vec<DataSet> {
        items(self.source, tag).into_iter().map(|item| self.convert_item(item)).filter(is_whole_code).collect()
    }

    /// A value in the form that its VR asks for; nothing when the source has none, or none that can be repaired.
    pub(crate) fn value(&self, tag: Tag, vr: VR) -> Option<Vec<u8>> {
        self.any(self.source.header.character_set(), (tag, vr), self.source.header.raw(tag)?)
    }

    fn any(&self, from: &CharacterSet, (tag, vr): (Tag, VR), raw: &[u8]) -> Option<Vec<u8>> {
        if is_text(vr) {
            return self.text(from, (tag, vr), raw);
        }
        if !is_plain(vr) {
            // What somebody wrote without its VR may be text, and nobody knows in which characters.
            return (vr != VR::UN).then(|| raw.to_vec());
        }
        if trimmed(raw).is_empty() {
            return Some(Vec::new());
        }
        let value = plain(tag, vr, raw);
        if value.is_none() {
            self.note(tag, &format!("not taken over: no valid {vr}"));
        }
        value
    }
}

/// A value of the default repertoire, repaired where there is one way to.
fn plain(tag: Tag, vr: VR, raw: &[u8]) -> Option<Vec<u8>> {
    let several = |valid: fn(&[u8]) -> bool| {
        let values: Vec<&[u8]> = raw.split(|byte| *byte == b'\\').map(trimmed).collect();
        ((values.len() == 1 || may_be_several(tag)) && values.into_iter().all(valid)).then(|| trimmed(raw).to_vec())
    };
    match vr {
        VR::DA => date(raw),
        VR::TM => time(raw),
        VR::AS => several(is_age),
        VR::DS => several(is_decimal),
        VR::IS => {
            several(|value| std::str::from_utf8(value).is_ok_and(|it| it.len() <= 12 && it.parse::<i32>().is_ok()))
        }
        VR::CS if tag == tags::PATIENT_SEX => several(|value| matches!(value, b"M" | b"F" | b"O")),
        VR::CS => several(is_code_string),
        VR::UI => Uid::from_value(trimmed(raw)).ok().map(|uid| uid.as_str().as_bytes().to_vec()),
        _ => trimmed(raw).iter().all(|byte| (0x20..0x7f).contains(byte)).then(|| trimmed(raw).to_vec()),
    }
}

/// The items of a sequence of the source, without private elements.
pub(crate) fn items(source: &Instance, tag: Tag) -> Vec<DataSet> {
    source
        .element(tag)
        .and_then(|element| element.items())
        .unwrap_or_default()
        .iter()
        .map(|item| read_item(item, source))
        .collect()
}

/// The first code of a sequence of the source that is whole in whatever character set a document is written; as it came.
pub(crate) fn first_code(source: &Instance, tag: Tag) -> Option<DataSet> {
    let copiers = [Policy::Source, Policy::Unicode].map(|policy| Copier::new(source, policy));
    let whole = |item: &DataSet| copiers.iter().all(|copier| is_whole_code(&copier.convert_item(item.clone())));
    items(source, tag).into_iter().find(whole)
}

/// Whether a code has all three parts (PS3.3 table 8.8-1).
pub(crate) fn is_whole_code(item: &DataSet) -> bool {
    let has = |tag: &Tag| item.bytes(*tag).is_some_and(|bytes| !trimmed(bytes).is_empty());
    [tags::CODE_VALUE, tags::CODING_SCHEME_DESIGNATOR, tags::CODE_MEANING].iter().all(has)
}

fn read_item(item: &InMemDicomObject, source: &Instance) -> DataSet {
    let mut read = DataSet::default();
    for element in item {
        let tag = element.header().tag;
        if tag.group() % 2 == 1 || tag.element() == 0 {
            continue;
        }
        let vr = element.vr();
        match element.value() {
            ParsedValue::Sequence(sequence) => {
                read.put_items(tag, sequence.items().iter().map(|item| read_item(item, source)).collect());
            }
            ParsedValue::Primitive(_) => {
                if let Some(bytes) = bytes(element, source) {
                    read.put_bytes(tag, vr, bytes);
                }
            }
            ParsedValue::PixelSequence(_) => {}
        }
    }
    read
}

/// The bytes of a value as they stood in the file; nothing where they are not known any more.
fn bytes(element: &InMemElement, source: &Instance) -> Option<Vec<u8>> {
    if is_text(element.vr()) {
        return source.text_bytes(element);
    }
    element.to_bytes().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests;
