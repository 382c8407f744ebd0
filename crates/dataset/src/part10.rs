//! The file around a data set (PS3.10 section 7): preamble, prefix, file meta information.

use std::io::Write;

use crate::{Error, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, TransferSyntax, Uid, gate::has_long_length};

/// The file meta information that `preread` reads and writes (PS3.10 table 7.1-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Media Storage SOP Class UID (0002,0002); absent in some old files.
    pub sop_class_uid: Option<Uid>,
    /// Media Storage SOP Instance UID (0002,0003); absent in some old files.
    pub sop_instance_uid: Option<Uid>,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax_uid: Uid,
    /// Source Application Entity Title (0002,0016).
    pub source_ae_title: Option<String>,
}

/// Bytes before the prefix `DICM`.
pub(crate) const PREAMBLE: usize = 128;

impl Meta {
    /// The bytes that stand before the data set: a zeroed preamble, `DICM` and group 0002 in Explicit VR Little Endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut group = Vec::with_capacity(256);
        element(&mut group, 0x0001, *b"OB", &[0, 1]);
        let uid = |uid: &Option<Uid>| uid.as_ref().map(|uid| uid.as_str().to_owned()).unwrap_or_default();
        element(&mut group, 0x0002, *b"UI", uid(&self.sop_class_uid).as_bytes());
        element(&mut group, 0x0003, *b"UI", uid(&self.sop_instance_uid).as_bytes());
        element(&mut group, 0x0010, *b"UI", self.transfer_syntax_uid.as_str().as_bytes());
        element(&mut group, 0x0012, *b"UI", IMPLEMENTATION_CLASS_UID.as_bytes());
        element(&mut group, 0x0013, *b"SH", IMPLEMENTATION_VERSION_NAME.as_bytes());
        if let Some(title) = self.source_ae_title.as_ref().and_then(|title| ae_title(title.as_bytes())) {
            element(&mut group, 0x0016, *b"AE", title.as_bytes());
        }
        let mut bytes = vec![0; PREAMBLE];
        bytes.extend_from_slice(b"DICM");
        element(&mut bytes, 0x0000, *b"UL", &u32::try_from(group.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&group);
        bytes
    }

    /// Reads the file meta information; also answers where the data set begins.
    ///
    /// A file without a preamble, one without `DICM` that starts with group 0002, and a bare data set that starts with
    /// group 0008 are read too: all are met.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), Error> {
        let mut at = match bytes {
            _ if bytes.get(PREAMBLE..PREAMBLE + 4) == Some(b"DICM") => PREAMBLE + 4,
            [b'D', b'I', b'C', b'M', ..] => 4,
            [2, 0, ..] => 0,
            _ => return Self::of_bare_data_set(bytes).map(|meta| (meta, 0)).ok_or(Error::NotDicom),
        };
        let mut meta = Self {
            sop_class_uid: None,
            sop_instance_uid: None,
            transfer_syntax_uid: "0".parse().map_err(|_| Error::NotDicom)?,
            source_ae_title: None,
        };
        let mut has_transfer_syntax = false;
        let mut stated_end = None;
        // The data set may itself begin with these two bytes: deflated, or by a peer that means harm. Where the stated
        // length leads into the middle of an element it is wrong, and the group ends where another one begins.
        while bytes.get(at..at + 2) == Some(&[2, 0]) && !(has_transfer_syntax && stated_end == Some(at)) {
            let (number, value, next) = read_element(bytes, at)?;
            at = next;
            match number {
                0x0000 => {
                    let length = value.first_chunk().map(|&length| u32::from_le_bytes(length) as usize);
                    stated_end = length.and_then(|length| at.checked_add(length));
                }
                0x0002 => meta.sop_class_uid = Uid::from_value(value).ok(),
                0x0003 => meta.sop_instance_uid = Uid::from_value(value).ok(),
                0x0010 => {
                    meta.transfer_syntax_uid =
                        Uid::from_value(value).map_err(|_| Error::Meta("Transfer Syntax UID (0002,0010) is no UID"))?;
                    has_transfer_syntax = true;
                }
                0x0016 => meta.source_ae_title = ae_title(value),
                _ => {}
            }
        }
        if !has_transfer_syntax {
            return Err(Error::Meta("Transfer Syntax UID (0002,0010) is missing"));
        }
        Ok((meta, at))
    }

    /// The meta that a data set without any would have had: it starts with group 0008, and the VR shows or does not.
    fn of_bare_data_set(bytes: &[u8]) -> Option<Self> {
        let (&[8, 0, _, _, a, b, ..], true) = (bytes.first_chunk::<8>()?, bytes.len() > 8) else { return None };
        let explicit = dicom_core::VR::from_binary([a, b]).is_some();
        let transfer_syntax_uid = match explicit {
            true => TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN,
            false => TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN,
        };
        Some(Self {
            sop_class_uid: None,
            sop_instance_uid: None,
            transfer_syntax_uid: transfer_syntax_uid.parse().ok()?,
            source_ae_title: None,
        })
    }

    /// Writes the file: [`Self::to_bytes`] and then the data set.
    pub fn write_file(&self, data_set: &[u8], mut to: impl Write) -> std::io::Result<()> {
        to.write_all(&self.to_bytes())?;
        to.write_all(data_set)
    }
}

/// At most 16 printable characters (PS3.5 table 6.2-1); anything else is no title.
fn ae_title(value: &[u8]) -> Option<String> {
    let title = std::str::from_utf8(value).ok()?.trim_matches(['\0', ' ']);
    let fits = title.len() <= 16 && title.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    (fits && !title.is_empty()).then(|| title.to_owned())
}

/// Appends an element of group 0002, padded to even length.
fn element(to: &mut Vec<u8>, number: u16, vr: [u8; 2], value: &[u8]) {
    let padding = match &vr {
        _ if value.len().is_multiple_of(2) => None,
        b"UI" | b"OB" => Some(0),
        _ => Some(b' '),
    };
    let length = value.len() + usize::from(padding.is_some());
    to.extend_from_slice(&[2, 0]);
    to.extend_from_slice(&number.to_le_bytes());
    to.extend_from_slice(&vr);
    if vr == *b"OB" {
        to.extend_from_slice(&[0, 0]);
        to.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    } else {
        to.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    }
    to.extend_from_slice(value);
    to.extend(padding);
}

/// The element number, value and end of the group 0002 element at `at`.
fn read_element(bytes: &[u8], at: usize) -> Result<(u16, &[u8], usize), Error> {
    const CUT: Error = Error::Meta("it ends inside an element");
    let head = bytes.get(at..at + 8).ok_or(CUT)?;
    let number = u16::from_le_bytes([head[2], head[3]]);
    let (length, value_at) = match dicom_core::VR::from_binary([head[4], head[5]]) {
        Some(vr) if has_long_length(vr) => {
            let long = bytes.get(at + 8..at + 12).ok_or(CUT)?;
            (u32::from_le_bytes([long[0], long[1], long[2], long[3]]) as usize, at + 12)
        }
        _ => (usize::from(u16::from_le_bytes([head[6], head[7]])), at + 8),
    };
    let end = value_at.checked_add(length).ok_or(CUT)?;
    Ok((number, bytes.get(value_at..end).ok_or(CUT)?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let meta = Meta {
            sop_class_uid: "1.2.840.10008.5.1.4.1.1.1".parse().ok(),
            sop_instance_uid: "1.2.3".parse().ok(),
            transfer_syntax_uid: "1.2.840.10008.1.2.1".parse().unwrap(),
            source_ae_title: Some("PACS".to_owned()),
        };
        let bytes = meta.to_bytes();
        assert_eq!(bytes.len() % 2, 0);
        assert_eq!(Meta::parse(&bytes).unwrap(), (meta, bytes.len()));
    }

    #[test]
    fn what_is_not_dicom_is_said_to_be_not_dicom() {
        assert!(matches!(Meta::parse(b"just some text"), Err(Error::NotDicom)));
        assert!(matches!(Meta::parse(&[0; 200]), Err(Error::NotDicom)));
        assert!(matches!(Meta::parse(&[2, 0, 0x10, 0, b'U', b'I', 0xff, 0xff]), Err(Error::Meta(_))));
    }

    #[test]
    fn a_data_set_cannot_pass_for_file_meta_information() {
        let meta = Meta {
            sop_class_uid: None,
            sop_instance_uid: None,
            transfer_syntax_uid: "1.2.840.10008.1.2.1".parse().unwrap(),
            source_ae_title: None,
        };
        let mut file = meta.to_bytes();
        let data_set_at = file.len();
        element(&mut file, 0x0010, *b"UI", b"1.2.840.10008.1.2.2");
        assert_eq!(Meta::parse(&file).unwrap(), (meta.clone(), data_set_at));
        // A group length that cannot be right is not believed.
        for length in [0, 3, 13, 1 << 30] {
            let mut wrong = meta.to_bytes();
            wrong[140..144].copy_from_slice(&u32::to_le_bytes(length));
            assert_eq!(Meta::parse(&wrong).unwrap(), (meta.clone(), data_set_at), "{length}");
        }
    }

    #[test]
    fn a_title_that_is_none_is_left_out() {
        for (title, read) in [("PACS ", Some("PACS")), ("SEVENTEEN LETTERS", None), ("A\nB", None), ("", None)] {
            let meta = Meta {
                sop_class_uid: None,
                sop_instance_uid: None,
                transfer_syntax_uid: "1.2.840.10008.1.2.1".parse().unwrap(),
                source_ae_title: Some(title.to_owned()),
            };
            assert_eq!(Meta::parse(&meta.to_bytes()).unwrap().0.source_ae_title.as_deref(), read, "{title:?}");
        }
    }
}
