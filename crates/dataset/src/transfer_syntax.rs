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
        let found = TransferSyntaxRegistry
            .get(uid)
            .ok_or_else(|| Error::UnknownTransferSyntax(uid.escape_default().collect()))?;
        Ok(Self {
            uid: found.uid(),
            name: found.name(),
            explicit_vr: found.uid() != Self::IMPLICIT_VR_LITTLE_ENDIAN,
            big_endian: found.uid() == Self::EXPLICIT_VR_BIG_ENDIAN,
            deflated: matches!(found.codec(), Codec::Dataset(_)),
            encapsulated: found.is_encapsulated_pixel_data(),
        })
    }

    /// Every transfer syntax that an instance may come in, in no order of preference.
    pub fn all() -> impl Iterator<Item = Self> {
        TransferSyntaxRegistry.iter().filter_map(|known| Self::from_uid(known.uid()).ok())
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
}
