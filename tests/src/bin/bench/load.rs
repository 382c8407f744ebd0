//! What is sent: made-up images, every one with a SOP Instance UID of its own, as files and as they are on the wire.

use anyhow::{Context, Result};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use e2e::{
    instance::{self, Instance},
    random::Random,
};

/// So many images of one size.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    images: usize,
    modality: &'static str,
    sop_class: &'static str,
    rows: u16,
    columns: u16,
}

/// A CT series: the load that the figures to reach are about.
pub(crate) const CT: Load = Load {
    name: "300 x 512 KB CT",
    images: 300,
    modality: "CT",
    sop_class: uids::CT_IMAGE_STORAGE,
    rows: 512,
    columns: 512,
};
/// More than any journal or cache takes in one piece.
pub(crate) const LONG: Load = Load { name: "1,500 x 512 KB CT", images: 1500, ..CT };
/// Many small images, such as an old MR study.
pub(crate) const SMALL: Load = Load {
    name: "3,000 x 20 KB",
    images: 3000,
    modality: "CT",
    sop_class: uids::CT_IMAGE_STORAGE,
    rows: 100,
    columns: 100,
};
/// Mammograms.
pub(crate) const LARGE: Load = Load {
    name: "8 x 60 MB",
    images: 8,
    modality: "MG",
    sop_class: uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    rows: 6250,
    columns: 4800,
};

impl Load {
    /// How many images each of `senders` has: at least one.
    pub(crate) fn shares(&self, senders: usize) -> Vec<usize> {
        let images = self.images.max(senders);
        (0..senders).map(|sender| images / senders + usize::from(sender < images % senders)).collect()
    }

    fn pixel_bytes(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.columns) * 2
    }
}

/// Which of an image's UIDs.
#[derive(Clone, Copy)]
enum Name {
    Study = 1,
    Series = 2,
    Instance = 3,
}

/// A UID of 44 characters, so that one takes the other's place without moving a byte.
fn uid(name: Name, sender: usize, number: usize) -> String {
    const FIRST: u128 = 10_u128.pow(38);
    let number = (name as u128) * 10_u128.pow(20) + (sender as u128) * 10_u128.pow(10) + number as u128;
    format!("2.25.{}", FIRST + number)
}

/// The names of the image that all the others are made from.
const TEMPLATE: (usize, usize) = (0, 0);

/// One image of a load, from which the others differ in their UIDs only.
pub(crate) struct Template {
    sop_class: &'static str,
    pixel_bytes: u64,
    image: Instance,
}

impl Template {
    /// Explicit VR Little Endian, 16 bits of which 12 are noise.
    pub(crate) fn of(load: &Load) -> Result<Self> {
        let mut random = Random::seeded(load.pixel_bytes());
        let pixels: Vec<u8> =
            (0..load.pixel_bytes() / 8).flat_map(|_| (random.bits() & 0x0fff_0fff_0fff_0fff).to_le_bytes()).collect();
        let mut object = InMemDicomObject::new_empty();
        for (tag, vr, value) in [
            (tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY"),
            (tags::SOP_CLASS_UID, VR::UI, load.sop_class),
            (tags::SOP_INSTANCE_UID, VR::UI, &uid(Name::Instance, TEMPLATE.0, TEMPLATE.1)),
            (tags::STUDY_DATE, VR::DA, "20260101"),
            (tags::STUDY_TIME, VR::TM, "120000"),
            (tags::ACCESSION_NUMBER, VR::SH, "MADEUP1"),
            (tags::MODALITY, VR::CS, load.modality),
            (tags::PATIENT_NAME, VR::PN, "MADEUP^BENCH"),
            (tags::PATIENT_ID, VR::LO, "MADEUP1"),
            (tags::STUDY_INSTANCE_UID, VR::UI, &uid(Name::Study, TEMPLATE.0, 0)),
            (tags::SERIES_INSTANCE_UID, VR::UI, &uid(Name::Series, TEMPLATE.0, 0)),
            (tags::SERIES_NUMBER, VR::IS, "1"),
            (tags::INSTANCE_NUMBER, VR::IS, "1"),
            (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        ] {
            object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
        }
        for (tag, value) in [
            (tags::SAMPLES_PER_PIXEL, 1),
            (tags::ROWS, load.rows),
            (tags::COLUMNS, load.columns),
            (tags::BITS_ALLOCATED, 16),
            (tags::BITS_STORED, 12),
            (tags::HIGH_BIT, 11),
            (tags::PIXEL_REPRESENTATION, 0),
        ] {
            object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
        }
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::from(pixels)));
        let image = instance::encode(object, uids::EXPLICIT_VR_LITTLE_ENDIAN)?;
        Ok(Self { sop_class: load.sop_class, pixel_bytes: load.pixel_bytes(), image })
    }

    pub(crate) fn sop_class(&self) -> &str {
        self.sop_class
    }

    /// The length of the pixels.
    pub(crate) fn pixel_bytes(&self) -> u64 {
        self.pixel_bytes
    }

    /// The length of the data set.
    pub(crate) fn bytes(&self) -> u64 {
        self.image.data_set.len() as u64
    }

    /// The image `number` of a sender as a Part 10 file.
    pub(crate) fn file(&self, sender: usize, number: usize) -> Result<Vec<u8>> {
        let mut file = self.image.to_part10()?;
        rename(&mut file, &places_of_names(&self.image.to_part10()?), sender, number);
        Ok(file)
    }

    /// The image's C-STORE as P-DATA-TF PDUs (PS3.8 section 9.3.5) of at most `max_pdu` bytes.
    pub(crate) fn store(&self, context: u8, max_pdu: usize) -> Result<Message> {
        let mut head = Vec::new();
        put_pdu(&mut head, context, 0b11, &self.command()?)?;
        let most = max_pdu - 6;
        let mut fragments = self.image.data_set.chunks(most).peekable();
        let mut tail = Vec::new();
        let mut bytes = &mut head;
        while let Some(fragment) = fragments.next() {
            let control = if fragments.peek().is_none() { 0b10 } else { 0b00 };
            put_pdu(bytes, context, control, fragment)?;
            bytes = &mut tail;
        }
        Ok(Message::new(head, tail))
    }

    /// The image for the floor: its length in eight bytes, and itself.
    pub(crate) fn plain(&self) -> Message {
        let mut head = self.bytes().to_le_bytes().to_vec();
        head.extend(&self.image.data_set);
        Message::new(head, Vec::new())
    }

    /// C-STORE-RQ (PS3.7 section 9.3.1.1). The image's name is the template's.
    fn command(&self) -> Result<Vec<u8>> {
        let mut elements = Vec::new();
        let uid = |uid: &str| {
            let mut bytes = uid.as_bytes().to_vec();
            bytes.resize(bytes.len().next_multiple_of(2), 0);
            bytes
        };
        for (element, value) in [
            (0x0002_u16, uid(self.sop_class)),
            (0x0100, vec![1, 0]),
            (0x0110, vec![1, 0]),
            (0x0700, vec![0, 0]),
            (0x0800, vec![1, 0]),
            (0x1000, uid(&self.image.sop_instance_uid)),
        ] {
            elements.extend([0, 0]);
            elements.extend(element.to_le_bytes());
            elements.extend(u32::try_from(value.len())?.to_le_bytes());
            elements.extend(value);
        }
        let mut command = vec![0, 0, 0, 0, 4, 0, 0, 0];
        command.extend(u32::try_from(elements.len())?.to_le_bytes());
        command.extend(elements);
        Ok(command)
    }
}

fn put_pdu(bytes: &mut Vec<u8>, context: u8, control: u8, fragment: &[u8]) -> Result<()> {
    let item = u32::try_from(fragment.len() + 2).context("a fragment is too long")?;
    bytes.extend([0x04, 0]);
    bytes.extend((item + 4).to_be_bytes());
    bytes.extend(item.to_be_bytes());
    bytes.extend([context, control]);
    bytes.extend(fragment);
    Ok(())
}

/// What one sender writes for one image, ready but for its names.
#[derive(Clone)]
pub(crate) struct Message {
    /// The start, which has all the names.
    pub(crate) head: Vec<u8>,
    /// The rest, which is the same for every image.
    pub(crate) tail: std::sync::Arc<Vec<u8>>,
    names: Vec<(Name, usize)>,
}

impl Message {
    fn new(head: Vec<u8>, tail: Vec<u8>) -> Self {
        Self { names: places_of_names(&head), head, tail: tail.into() }
    }

    /// Makes it the image `number` of `sender`.
    pub(crate) fn rename(&mut self, sender: usize, number: usize) {
        rename(&mut self.head, &self.names, sender, number);
    }
}

fn places_of_names(bytes: &[u8]) -> Vec<(Name, usize)> {
    // They are near the start; the pixels could only be searched in vain.
    let start = &bytes[..bytes.len().min(4096)];
    let names = [
        (Name::Study, uid(Name::Study, TEMPLATE.0, 0)),
        (Name::Series, uid(Name::Series, TEMPLATE.0, 0)),
        (Name::Instance, uid(Name::Instance, TEMPLATE.0, TEMPLATE.1)),
    ];
    let places = |(name, uid): &(Name, String)| {
        let windows = start.windows(uid.len()).enumerate();
        let found = windows.filter(|(_, window)| *window == uid.as_bytes());
        found.map(|(at, _)| (*name, at)).collect::<Vec<_>>()
    };
    names.iter().flat_map(places).collect()
}

fn rename(bytes: &mut [u8], places: &[(Name, usize)], sender: usize, number: usize) {
    for (name, at) in places {
        let number = if matches!(name, Name::Instance) { number } else { 0 };
        // From 1, so that no image is the template itself.
        let uid = uid(*name, sender + 1, number);
        bytes[*at..*at + uid.len()].copy_from_slice(uid.as_bytes());
    }
}
