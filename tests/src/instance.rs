//! DICOM instances as bytes: read from files, or made up.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject, OpenFileOptions};

use crate::random::Random;

/// An instance as it is sent: its data set stays the bytes it came as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: String,
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: String,
    /// Study Instance UID (0020,000D); empty where the data set has none.
    pub study_instance_uid: String,
    /// Transfer Syntax UID (0002,0010).
    pub transfer_syntax_uid: String,
    /// The data set, without preamble and file meta information.
    pub data_set: Vec<u8>,
}

impl Instance {
    /// Reads a Part 10 file.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub fn read(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Self::from_part10(&bytes).with_context(|| format!("{} is not a DICOM file", file.display()))
    }

    /// Takes a Part 10 file apart.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_part10(bytes: &[u8]) -> Result<Self> {
        let object = OpenFileOptions::new().read_until(tags::PIXEL_DATA).from_reader(bytes)?;
        let uid = |tag| object.get(tag).and_then(|element| element.to_str().ok()).unwrap_or_default();
        let uid = |tag| uid(tag).trim_end_matches(['\0', ' ']).to_owned();
        Ok(Self {
            // Not from the file meta information, which in files of unknown origin may say something else.
            sop_class_uid: uid(tags::SOP_CLASS_UID),
            sop_instance_uid: uid(tags::SOP_INSTANCE_UID),
            study_instance_uid: uid(tags::STUDY_INSTANCE_UID),
            transfer_syntax_uid: object.meta().transfer_syntax().to_owned(),
            data_set: data_set(bytes)?.to_vec(),
        })
    }

    /// Reads a file without parsing its data set, for files that are malformed on purpose. The UIDs are those of its file
    /// meta information.
    ///
    /// # Errors
    /// When even its file meta information cannot be read.
    pub fn read_unparsed(file: &Path) -> Result<Self> {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut rest = bytes.get(132..).filter(|_| &bytes[128..132] == b"DICM").context("no preamble")?;
        let [mut sop_class_uid, mut sop_instance_uid, mut transfer_syntax_uid] = [const { String::new() }; 3];
        while rest.starts_with(&[2, 0]) {
            let (element, value, after) =
                meta_element(rest).context("the file ends within its file meta information")?;
            let text = || String::from_utf8_lossy(value).trim_end_matches(['\0', ' ']).to_owned();
            match element {
                0x0002 => sop_class_uid = text(),
                0x0003 => sop_instance_uid = text(),
                0x0010 => transfer_syntax_uid = text(),
                _ => {}
            }
            rest = after;
        }
        ensure!(!transfer_syntax_uid.is_empty(), "no transfer syntax");
        let study_instance_uid = String::new();
        Ok(Self { sop_class_uid, sop_instance_uid, study_instance_uid, transfer_syntax_uid, data_set: rest.to_vec() })
    }

    /// Reads a file that is a data set and nothing else, in Explicit or Implicit VR Little Endian.
    ///
    /// # Errors
    /// When it is neither.
    pub fn read_without_meta(file: &Path) -> Result<Self> {
        let data_set = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut parsed = [uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN].into_iter().map(|syntax| {
            let unnamed = Self {
                sop_class_uid: uids::CT_IMAGE_STORAGE.to_owned(),
                sop_instance_uid: "2.25.1".to_owned(),
                study_instance_uid: String::new(),
                transfer_syntax_uid: syntax.to_owned(),
                data_set: data_set.clone(),
            };
            Self::from_part10(&unnamed.to_part10()?)
        });
        let found = parsed.find_map(|read| read.ok().filter(|instance| !instance.sop_instance_uid.is_empty()));
        found.with_context(|| format!("{} is no data set", file.display()))
    }

    /// The same image under other UIDs.
    ///
    /// # Errors
    /// When the data set cannot be parsed or written.
    pub fn reissued(&self, study: &str, series: &str, instance: &str) -> Result<Self> {
        let mut object = dicom_object::from_reader(self.to_part10()?.as_slice())?.into_inner();
        text(&mut object, tags::STUDY_INSTANCE_UID, VR::UI, study);
        text(&mut object, tags::SERIES_INSTANCE_UID, VR::UI, series);
        text(&mut object, tags::SOP_INSTANCE_UID, VR::UI, instance);
        encode(object, &self.transfer_syntax_uid)
    }

    /// The same with other values of some text attributes, among them perhaps its UIDs.
    ///
    /// # Errors
    /// As [`Self::reissued`].
    pub fn with(&self, values: &[(Tag, VR, &str)]) -> Result<Self> {
        let mut object = dicom_object::from_reader(self.to_part10()?.as_slice())?.into_inner();
        for (tag, vr, value) in values {
            text(&mut object, *tag, *vr, value);
        }
        encode(object, &self.transfer_syntax_uid)
    }

    /// The same in another transfer syntax, of native pixels as well.
    ///
    /// # Errors
    /// As [`Self::reissued`].
    pub fn encoded(&self, transfer_syntax: &str) -> Result<Self> {
        encode(dicom_object::from_reader(self.to_part10()?.as_slice())?.into_inner(), transfer_syntax)
    }

    /// The instance as a Part 10 file.
    ///
    /// # Errors
    /// When the file meta information cannot be written.
    pub fn to_part10(&self) -> Result<Vec<u8>> {
        let meta = FileMetaTableBuilder::new()
            .media_storage_sop_class_uid(&self.sop_class_uid)
            .media_storage_sop_instance_uid(&self.sop_instance_uid)
            .transfer_syntax(&self.transfer_syntax_uid)
            .build()?;
        // The table writes neither the preamble nor the prefix.
        let mut bytes = vec![0; 128];
        bytes.extend(b"DICM");
        meta.write(&mut bytes)?;
        bytes.extend(&self.data_set);
        Ok(bytes)
    }

    /// Every data element but the pixels.
    ///
    /// # Errors
    /// When the data set cannot be parsed.
    pub fn header(&self) -> Result<InMemDicomObject> {
        let file = self.to_part10()?;
        Ok(OpenFileOptions::new().read_until(tags::PIXEL_DATA).from_reader(file.as_slice())?.into_inner())
    }
}

/// The first element of file meta information, which is always Explicit VR Little Endian (PS3.10 section 7.1): its number
/// within the group, its value, and what follows.
fn meta_element(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    let (length, rest) = if matches!(&head[4..6], b"OB" | b"UN") {
        let (length, rest) = rest.split_first_chunk::<4>()?;
        (u32::from_le_bytes(*length) as usize, rest)
    } else {
        (usize::from(u16::from_le_bytes([head[6], head[7]])), rest)
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((u16::from_le_bytes([head[2], head[3]]), value, rest))
}

/// The data set of a Part 10 file, byte for byte.
///
/// # Errors
/// When `bytes` is not a Part 10 file with a group length.
pub fn data_set(bytes: &[u8]) -> Result<&[u8]> {
    // Preamble, prefix, then (0002,0000) UL 4: twelve bytes whose last four are the length of the rest of the group.
    let length = bytes.get(140..144).filter(|_| &bytes[128..138] == b"DICM\x02\x00\x00\x00UL");
    let length = length.and_then(|length| <[u8; 4]>::try_from(length).ok()).context("no file meta group length")?;
    bytes.get(144 + u32::from_le_bytes(length) as usize..).context("the file ends within its file meta information")
}

/// A made-up patient's study, to which images are added.
#[derive(Debug, Clone)]
pub struct Study {
    /// Study Instance UID.
    pub uid: String,
    /// Patient's Name.
    pub patient_name: String,
    series: String,
    accession_number: String,
    random: Random,
}

impl Study {
    /// The study that `seed` decides.
    pub fn seeded(seed: u64) -> Self {
        let mut random = Random::seeded(seed);
        Self {
            uid: random.uid(),
            patient_name: format!("MADEUP^{seed}"),
            series: random.uid(),
            accession_number: format!("MADEUP{seed:06}"),
            random,
        }
    }

    /// A small CR image (PS3.3 A.2) of noise, 64 x 64 pixels of one byte.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn image(&mut self, number: u32) -> Result<Instance> {
        self.image_of(number, 64)
    }

    /// As [`Self::image`], with more rows, so that it has at least `bytes` of pixels; at most 4 MiB.
    ///
    /// # Errors
    /// When it is too long, or cannot be encoded.
    pub fn long_image(&mut self, number: u32, bytes: usize) -> Result<Instance> {
        self.image_of(number, u16::try_from(bytes.div_ceil(64))?)
    }

    fn image_of(&mut self, number: u32, rows: u16) -> Result<Instance> {
        let pixels: Vec<u8> = (0..u32::from(rows) * 64 / 8).flat_map(|_| self.random.bits().to_le_bytes()).collect();
        let mut object = self.header(uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE, "CR", number);
        text(&mut object, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
        for (tag, value) in [
            (tags::SAMPLES_PER_PIXEL, 1_u16),
            (tags::ROWS, rows),
            (tags::COLUMNS, 64),
            (tags::BITS_ALLOCATED, 8),
            (tags::BITS_STORED, 8),
            (tags::HIGH_BIT, 7),
            (tags::PIXEL_REPRESENTATION, 0),
        ] {
            object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
        }
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(pixels)));
        encode(object, uids::EXPLICIT_VR_LITTLE_ENDIAN)
    }

    /// An instance without pixels: an encapsulated document that holds a few bytes.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn document(&mut self, number: u32) -> Result<Instance> {
        let mut object = self.header(uids::ENCAPSULATED_PDF_STORAGE, "DOC", number);
        text(&mut object, tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, VR::LO, "application/pdf");
        object.put(DataElement::new(tags::ENCAPSULATED_DOCUMENT, VR::OB, PrimitiveValue::from(b"%PDF-1.4".to_vec())));
        encode(object, uids::EXPLICIT_VR_LITTLE_ENDIAN)
    }

    /// As [`Self::image`], without a Study Instance UID.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn image_without_study(&mut self, number: u32) -> Result<Instance> {
        let whole = self.image(number)?;
        let mut object = dicom_object::from_reader(whole.to_part10()?.as_slice())?.into_inner();
        object.remove_element(tags::STUDY_INSTANCE_UID);
        encode(object, uids::EXPLICIT_VR_LITTLE_ENDIAN)
    }

    fn header(&mut self, sop_class: &str, modality: &str, number: u32) -> InMemDicomObject {
        let mut object = InMemDicomObject::new_empty();
        let instance = self.random.uid();
        for (tag, vr, value) in [
            (tags::SOP_CLASS_UID, VR::UI, sop_class),
            (tags::SOP_INSTANCE_UID, VR::UI, &instance),
            (tags::STUDY_DATE, VR::DA, "20260101"),
            (tags::STUDY_TIME, VR::TM, "120000"),
            (tags::ACCESSION_NUMBER, VR::SH, &self.accession_number),
            (tags::MODALITY, VR::CS, modality),
            (tags::MANUFACTURER, VR::LO, ""),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN, ""),
            (tags::PATIENT_NAME, VR::PN, &self.patient_name),
            (tags::PATIENT_ID, VR::LO, &self.accession_number),
            (tags::PATIENT_BIRTH_DATE, VR::DA, ""),
            (tags::PATIENT_SEX, VR::CS, ""),
            (tags::BODY_PART_EXAMINED, VR::CS, "CHEST"),
            (tags::VIEW_POSITION, VR::CS, "PA"),
            (tags::STUDY_INSTANCE_UID, VR::UI, &self.uid),
            (tags::SERIES_INSTANCE_UID, VR::UI, &self.series),
            (tags::STUDY_ID, VR::SH, "1"),
            (tags::SERIES_NUMBER, VR::IS, "1"),
            (tags::INSTANCE_NUMBER, VR::IS, &number.to_string()),
        ] {
            text(&mut object, tag, vr, value);
        }
        object
    }
}

fn text(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: &str) {
    object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
}

/// An object in a transfer syntax.
///
/// # Errors
/// When it cannot be encoded.
pub fn encode(object: InMemDicomObject, transfer_syntax: &str) -> Result<Instance> {
    let meta = FileMetaTableBuilder::new().transfer_syntax(transfer_syntax);
    let mut file = Vec::new();
    object.with_meta(meta)?.write_all(&mut file)?;
    Instance::from_part10(&file)
}
