use std::fmt;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use crate::{CharacterSet, Error, Phi, TransferSyntax, Uid, gate::Scan};

/// The attributes of an instance that we route and report on: the short top-level values, as they came, and the
/// identifiers without which an instance is not one.
///
/// `Debug` shows identifiers only, never a patient's data.
#[derive(Clone)]
pub struct Header {
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: Uid,
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: Uid,
    /// Study Instance UID (0020,000D).
    pub study_instance_uid: Uid,
    /// Series Instance UID (0020,000E).
    pub series_instance_uid: Uid,
    /// The transfer syntax that the values are encoded in.
    pub transfer_syntax: TransferSyntax,
    missing: Option<(&'static str, Tag)>,
    character_set: CharacterSet,
    scan: Scan,
}

/// Stands for an identifier that is absent; no instance may have it (PS3.5 B.2 gives no root to zero).
const NO_UID: &str = "0";

impl Header {
    /// The header of a data set that passed the gate.
    ///
    /// Files without identity are met and their pixels can be looked at, so an absent identifier is `0` here; what is
    /// to be kept or reported on must pass [`Self::require_identity`].
    pub fn from_scan(scan: Scan, transfer_syntax: TransferSyntax) -> Self {
        let mut missing = None;
        let mut uid = |name, tag: Tag| {
            let value = scan.values.get(&tag).and_then(|value| Uid::from_value(&value.bytes).ok());
            value.unwrap_or_else(|| {
                missing = missing.or(Some((name, tag)));
                Uid::from_value(NO_UID.as_bytes()).expect("zero is a UID")
            })
        };
        let declared = scan.values.get(&tags::SPECIFIC_CHARACTER_SET).map_or(&[][..], |value| &value.bytes);
        Self {
            sop_class_uid: uid("SOP Class UID", tags::SOP_CLASS_UID),
            sop_instance_uid: uid("SOP Instance UID", tags::SOP_INSTANCE_UID),
            study_instance_uid: uid("Study Instance UID", tags::STUDY_INSTANCE_UID),
            series_instance_uid: uid("Series Instance UID", tags::SERIES_INSTANCE_UID),
            missing,
            character_set: CharacterSet::declared(declared),
            transfer_syntax,
            scan,
        }
    }

    /// Errors with [`Error::MissingUid`] when the instance lacks one of the four identifiers that make it one.
    pub fn require_identity(&self) -> Result<(), Error> {
        self.missing.map_or(Ok(()), |(name, tag)| Err(Error::MissingUid { name, tag }))
    }

    /// A value's bytes as they came, padding included; nothing when absent or too long to be kept.
    pub fn raw(&self, tag: Tag) -> Option<&[u8]> {
        self.scan.values.get(&tag).map(|value| value.bytes.as_slice())
    }

    /// The attributes that say whose it is and are there, but were not kept, so that [`Self::raw`] has nothing of them: longer
    /// than a header's values are, or a sequence.
    pub fn unread_identity(&self) -> impl Iterator<Item = Tag> {
        self.scan.unread_identity.iter().copied()
    }

    /// A text value, decoded with Specific Character Set (0008,0005) and without padding; nothing when empty.
    ///
    /// It may be a patient's data: see [`Self::patient_name`] for what must not be logged.
    pub fn text(&self, tag: Tag) -> Option<String> {
        let decoded = self.character_set.decode(self.raw(tag)?);
        let text = decoded.trim_matches(['\0', ' ']);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The values of a multi-valued text attribute, each without padding.
    pub fn texts(&self, tag: Tag) -> Vec<String> {
        self.text(tag).map(|text| text.split('\\').map(|part| part.trim().to_owned()).collect()).unwrap_or_default()
    }

    /// A number of VR US, in the data set's byte order, or of VR IS.
    pub fn integer(&self, tag: Tag) -> Option<i64> {
        let value = self.scan.values.get(&tag)?;
        match (value.vr, value.bytes.as_slice()) {
            (dicom_core::VR::US, &[a, b, ..]) => Some(i64::from(if self.transfer_syntax.big_endian() {
                u16::from_be_bytes([a, b])
            } else {
                u16::from_le_bytes([a, b])
            })),
            _ => self.text(tag)?.split('\\').next()?.trim().parse().ok(),
        }
    }

    /// Modality (0008,0060); empty when absent.
    pub fn modality(&self) -> String {
        self.text(tags::MODALITY).unwrap_or_default()
    }

    /// Patient's Name (0010,0010), decoded.
    pub fn patient_name(&self) -> Phi<String> {
        Phi::new(self.text(tags::PATIENT_NAME).unwrap_or_default())
    }

    /// Whether the instance has pixel data of any kind.
    pub fn has_pixel_data(&self) -> bool {
        self.scan.has_pixel_data
    }

    /// What the gate saw.
    pub(crate) fn scan(&self) -> &Scan {
        &self.scan
    }

    /// Whether `preread` made this object: such an object never starts a reading.
    pub fn is_our_own(&self) -> bool {
        self.text(tags::MANUFACTURER).as_deref() == Some(crate::MANUFACTURER)
    }

    /// The character set that the values were decoded with.
    pub fn character_set(&self) -> &CharacterSet {
        &self.character_set
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("sop_class_uid", &self.sop_class_uid)
            .field("sop_instance_uid", &self.sop_instance_uid)
            .field("transfer_syntax", &self.transfer_syntax.uid())
            .finish_non_exhaustive()
    }
}
