use dicom_encoding::{TransferSyntaxIndex, transfer_syntax::Codec};
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use crate::Error;

/// How a data set is encoded on the wire and on the disk (PS3.5 section 10 and annex A).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferSyntax {
    uid: &'static str,
    name: &'static str,
    explicit_vr: bool,
    big_endian: bool,
    deflated: bool,
    encapsulated: bool,
}

/// Retired JPEG processes (PS3.6 table A-1) that dicom-rs does not know: an archive may still hold and send them. They
/// can be kept and sent on, not parsed.
const RETIRED: &[(&str, &str)] = &[
    ("1.2.840.10008.1.2.4.52", "JPEG Extended (Processes 3 & 5)"),
    ("1.2.840.10008.1.2.4.53", "JPEG Spectral Selection, Non-Hierarchical (Processes 6 & 8)"),
    ("1.2.840.10008.1.2.4.54", "JPEG Spectral Selection, Non-Hierarchical (Processes 7 & 9)"),
    ("1.2.840.10008.1.2.4.55", "JPEG Full Progression, Non-Hierarchical (Processes 10 & 12)"),
    ("1.2.840.10008.1.2.4.56", "JPEG Full Progression, Non-Hierarchical (Processes 11 & 13)"),
    ("1.2.840.10008.1.2.4.58", "JPEG Lossless, Non-Hierarchical (Process 15)"),
    ("1.2.840.10008.1.2.4.59", "JPEG Extended, Hierarchical (Processes 16 & 18)"),
    ("1.2.840.10008.1.2.4.60", "JPEG Extended, Hierarchical (Processes 17 & 19)"),
    ("1.2.840.10008.1.2.4.61", "JPEG Spectral Selection, Hierarchical (Processes 20 & 22)"),
    ("1.2.840.10008.1.2.4.62", "JPEG Spectral Selection, Hierarchical (Processes 21 & 23)"),
    ("1.2.840.10008.1.2.4.63", "JPEG Full Progression, Hierarchical (Processes 24 & 26)"),
    ("1.2.840.10008.1.2.4.64", "JPEG Full Progression, Hierarchical (Processes 25 & 27)"),
    ("1.2.840.10008.1.2.4.65", "JPEG Lossless, Hierarchical (Process 28)"),
    ("1.2.840.10008.1.2.4.66", "JPEG Lossless, Hierarchical (Process 29)"),
];

impl TransferSyntax {
    /// Implicit VR Little Endian, every application's default (PS3.5 A.1).
    pub const IMPLICIT_VR_LITTLE_ENDIAN: &'static str = "1.2.840.10008.1.2";
    /// Explicit VR Little Endian (PS3.5 A.2).
    pub const EXPLICIT_VR_LITTLE_ENDIAN: &'static str = "1.2.840.10008.1.2.1";
    /// Deflated Explicit VR Little Endian (PS3.5 A.5).
    pub const DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: &'static str = "1.2.840.10008.1.2.1.99";
    /// Explicit VR Big Endian, retired but met (PS3.5 A.3 of 2016).
    pub const EXPLICIT_VR_BIG_ENDIAN: &'static str = "1.2.840.10008.1.2.2";

    /// The transfer syntax of a UID, padding allowed. Errors with [`Error::UnknownTransferSyntax`].
    pub fn from_uid(uid: &str) -> Result<Self, Error> {
        let uid = uid.trim_end_matches(['\0', ' ']);
        if let Some(found) = TransferSyntaxRegistry.get(uid) {
            return Ok(Self {
                uid: found.uid(),
                name: found.name(),
                explicit_vr: found.uid() != Self::IMPLICIT_VR_LITTLE_ENDIAN,
                big_endian: found.uid() == Self::EXPLICIT_VR_BIG_ENDIAN,
                deflated: matches!(found.codec(), Codec::Dataset(_)),
                encapsulated: found.is_encapsulated_pixel_data(),
            });
        }
        let retired = RETIRED.iter().find(|(known, _)| *known == uid);
        let &(uid, name) = retired.ok_or_else(|| Error::UnknownTransferSyntax(uid.escape_default().collect()))?;
        Ok(Self { uid, name, explicit_vr: true, big_endian: false, deflated: false, encapsulated: true })
    }

    /// Every transfer syntax that an instance may come in, in no order of preference.
    pub fn all() -> impl Iterator<Item = Self> {
        let known = TransferSyntaxRegistry.iter().map(|known| known.uid());
        known.chain(RETIRED.iter().map(|(uid, _)| *uid)).filter_map(|uid| Self::from_uid(uid).ok())
    }

    /// Whether data sets in it can be parsed, and not only kept.
    pub(crate) fn can_be_parsed(&self) -> bool {
        TransferSyntaxRegistry.get(self.uid).is_some()
    }

    /// Its UID (PS3.6 table A-1).
    pub fn uid(&self) -> &'static str {
        self.uid
    }

    /// Its name in PS3.6.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether each element names its value representation.
    pub fn explicit_vr(&self) -> bool {
        self.explicit_vr
    }

    /// Whether numbers come most significant byte first.
    pub fn big_endian(&self) -> bool {
        self.big_endian
    }

    /// Whether the data set is deflated as a whole (RFC 1951).
    pub fn deflated(&self) -> bool {
        self.deflated
    }

    /// Whether pixel data comes in fragments, compressed.
    pub fn encapsulated(&self) -> bool {
        self.encapsulated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_native_syntaxes_differ_as_the_standard_says() {
        let facts = |uid| {
            let it = TransferSyntax::from_uid(uid).unwrap();
            (it.explicit_vr, it.big_endian, it.deflated, it.encapsulated)
        };
        assert_eq!(facts("1.2.840.10008.1.2\0"), (false, false, false, false));
        assert_eq!(facts("1.2.840.10008.1.2.1"), (true, false, false, false));
        assert_eq!(facts("1.2.840.10008.1.2.2"), (true, true, false, false));
        assert_eq!(facts("1.2.840.10008.1.2.1.99"), (true, false, true, false));
        assert_eq!(facts("1.2.840.10008.1.2.4.90"), (true, false, false, true));
    }

    #[test]
    fn retired_syntaxes_are_known_and_each_syntax_once() {
        let retired = TransferSyntax::from_uid("1.2.840.10008.1.2.4.55").unwrap();
        assert!(retired.encapsulated() && !retired.can_be_parsed());
        assert!(TransferSyntax::from_uid("1.2.840.10008.1.2.4.67").is_err());
        let mut all: Vec<_> = TransferSyntax::all().map(|syntax| syntax.uid()).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
