//! The texts of an object as they stood: which characters their bytes are, its items may say each for itself.

use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, mem::InMemElement};

use crate::{CharacterSet, Instance, object};

/// How the texts of a data set, or of an item within it, are read.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    /// They were decoded from UTF-8; otherwise each character is a byte.
    unicode: bool,
    set: CharacterSet,
}

impl Texts {
    pub(crate) fn of(instance: &Instance) -> Self {
        let declared = instance.header.raw(tags::SPECIFIC_CHARACTER_SET).unwrap_or_default();
        Self { unicode: object::is_unicode(declared), set: instance.header.character_set().clone() }
    }

    /// The same within an item, which may declare a character set of its own.
    pub(crate) fn of_item(&self, item: &InMemDicomObject) -> Self {
        let declared = item.get(tags::SPECIFIC_CHARACTER_SET).and_then(|element| self.bytes(element));
        match declared.filter(|declared| !declared.trim_ascii().is_empty()) {
            Some(declared) => Self { unicode: self.unicode, set: CharacterSet::declared(&declared) },
            None => self.clone(),
        }
    }

    /// The same for items that were bytes to who read the data set.
    pub(crate) fn of_bytes(&self) -> Self {
        Self { unicode: false, set: self.set.clone() }
    }

    pub(crate) fn set(&self) -> &CharacterSet {
        &self.set
    }

    /// The bytes of a text as they stood; nothing where they are not known any more, for they were to be UTF-8 and were not.
    pub(crate) fn bytes(&self, element: &InMemElement) -> Option<Vec<u8>> {
        let text = element.to_multi_str().ok()?.join("\\");
        if self.unicode {
            return (!text.contains('\u{fffd}')).then(|| text.into_bytes());
        }
        text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
    }

    /// A text without padding; what cannot be decoded is U+FFFD.
    pub(crate) fn decode(&self, element: &InMemElement) -> String {
        let text = match self.bytes(element) {
            Some(bytes) => self.set.decode(&bytes),
            None => element.to_str().map(|text| text.into_owned()).unwrap_or_default(),
        };
        text.trim_matches(['\0', ' ']).to_owned()
    }
}

impl Instance {
    /// The bytes of a text element of this instance, or of one of its items, as they stood in the file; nothing where they
    /// were to be UTF-8 and are not, or where the element is no text.
    pub fn text_bytes(&self, element: &InMemElement) -> Option<Vec<u8>> {
        Texts::of(self).bytes(element)
    }
}
