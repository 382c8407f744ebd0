//! Small synthetic instances.

use dataset::{Instance, Limits, tags};
use dicom_core::{
    DataElement, PrimitiveValue, Tag, VR,
    value::{DataSetSequence, Value},
};
use dicom_object::{InMemDicomObject, meta::FileMetaTableBuilder};

pub(crate) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
pub(crate) const ENHANCED_CT: &str = "1.2.840.10008.5.1.4.1.1.2.1";
pub(crate) const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
pub(crate) const DX: &str = "1.2.840.10008.5.1.4.1.1.1.1";
pub(crate) const MG: &str = "1.2.840.10008.5.1.4.1.1.1.2";
pub(crate) const US_MULTI_FRAME: &str = "1.2.840.10008.5.1.4.1.1.3.1";

/// An image of 4 by 3 pixels with the elements that it is given; `uid` ends its SOP Instance UID.
pub(crate) struct Made(InMemDicomObject);

pub(crate) fn image(class: &str, modality: &str, uid: u32) -> Made {
    let made = Made(InMemDicomObject::new_empty())
        .text(tags::SOP_CLASS_UID, VR::UI, class)
        .text(tags::SOP_INSTANCE_UID, VR::UI, &format!("1.2.3.{uid}"))
        .text(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.1")
        .text(tags::SERIES_INSTANCE_UID, VR::UI, "1.2.2")
        .text(tags::MODALITY, VR::CS, modality)
        .text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    let words = [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, 3),
        (tags::COLUMNS, 4),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 16),
        (tags::HIGH_BIT, 15),
        (tags::PIXEL_REPRESENTATION, 1),
    ];
    words.into_iter().fold(made, |made, (tag, value)| made.word(tag, value)).pixels(&[0; 12])
}

impl Made {
    pub(crate) fn text(mut self, tag: Tag, vr: VR, value: &str) -> Self {
        let _ = self.0.put_element(DataElement::new(tag, vr, PrimitiveValue::from(value)));
        self
    }

    pub(crate) fn word(mut self, tag: Tag, value: u16) -> Self {
        let _ = self.0.put_element(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
        self
    }

    pub(crate) fn element(mut self, tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) -> Self {
        let _ = self.0.put_element(DataElement::new(tag, vr, value.into()));
        self
    }

    pub(crate) fn items(mut self, tag: Tag, items: Vec<InMemDicomObject>) -> Self {
        let value = Value::from(DataSetSequence::from(items));
        let _ = self.0.put_element(DataElement::new(tag, VR::SQ, value));
        self
    }

    /// Signed 16-bit values of all frames.
    pub(crate) fn pixels(self, values: &[i16]) -> Self {
        let words: Vec<u16> = values.iter().map(|value| value.cast_unsigned()).collect();
        self.element(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(words.into()))
    }

    pub(crate) fn plane(self, position: [f64; 3], orientation: [f64; 6]) -> Self {
        self.text(tags::IMAGE_POSITION_PATIENT, VR::DS, &numbers(&position)).text(
            tags::IMAGE_ORIENTATION_PATIENT,
            VR::DS,
            &numbers(&orientation),
        )
    }

    pub(crate) fn instance_number(self, number: u32) -> Self {
        self.text(tags::INSTANCE_NUMBER, VR::IS, &number.to_string())
    }

    /// The instance, through the bytes of a file.
    pub(crate) fn instance(self) -> Instance {
        let meta = FileMetaTableBuilder::new().transfer_syntax("1.2.840.10008.1.2.1");
        let mut bytes = Vec::new();
        self.0.with_meta(meta).expect("file meta information").write_all(&mut bytes).expect("a file in memory");
        Instance::from_bytes(&bytes, &Limits::default()).expect("what was just written")
    }

    /// As the item of a sequence.
    pub(crate) fn item(tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) -> InMemDicomObject {
        InMemDicomObject::from_element_iter([DataElement::new(tag, vr, value.into())])
    }

    /// A functional group: a sequence of one item.
    pub(crate) fn group(macros: Vec<(Tag, InMemDicomObject)>) -> InMemDicomObject {
        let elements = macros
            .into_iter()
            .map(|(tag, item)| DataElement::new(tag, VR::SQ, Value::from(DataSetSequence::from(vec![item]))));
        InMemDicomObject::from_element_iter(elements)
    }
}

pub(crate) fn numbers(values: &[f64]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join("\\")
}
