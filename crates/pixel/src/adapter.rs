//! The seam to dicom-pixeldata, for JPEG: one codestream in, its native bytes out.
//!
//! It is given an object of its own for each frame: our checked header and that frame alone. From the whole instance
//! it refuses an image for its window, copies every fragment and every native byte for each frame, and knows neither
//! the Extended Offset Table nor fragments without a table.

use dataset::tags;
use dicom_core::{
    DataElement, PrimitiveValue, Tag, VR,
    value::{PixelFragmentSequence, Value},
};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_pixeldata::PixelDecoder;

use crate::{Error, image_pixel::ImagePixel};

/// The samples that a frame is decoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    pub(crate) samples: u32,
    /// Bits of a cell.
    pub(crate) bits: u32,
}

impl Layout {
    /// As many samples as the header says, in cells of `bits` bits.
    pub(crate) fn of(image: &ImagePixel, bits: u32) -> Self {
        Self { rows: image.rows, columns: image.columns, samples: image.samples, bits }
    }

    /// Bytes of the decoded frame. The header's limits keep it far from any overflow.
    pub(crate) fn bytes(self) -> usize {
        self.rows as usize * self.columns as usize * self.samples as usize * (self.bits as usize / 8)
    }
}

/// Decodes a codestream. What it says of itself must have been checked: the adapters allocate by it.
pub(crate) fn encapsulated(
    codec: &'static str,
    syntax: &str,
    mut codestream: Vec<u8>,
    layout: Layout,
) -> Result<Vec<u8>, Error> {
    // The adapters refuse a frame of 16 MiB and more that is compressed to less than a 64th: an empty mammogram does
    // that. The size is checked by now, so zeros after the codestream's end make up the difference.
    const ALWAYS_ALLOWED: usize = 16 << 20;
    const RATIO: usize = 64;
    if layout.bytes() >= ALWAYS_ALLOWED {
        codestream.resize(codestream.len().max(layout.bytes().div_ceil(RATIO)), 0);
    }
    let data = Value::PixelSequence(PixelFragmentSequence::new_fragments(vec![codestream]));
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid("")
        .media_storage_sop_instance_uid("")
        .transfer_syntax(syntax)
        .build()
        .map_err(|error| Error::codec(codec, error))?;
    let mut object = InMemDicomObject::new_empty().with_exact_meta(meta);
    let numbers: [(Tag, u32); 8] = [
        (tags::SAMPLES_PER_PIXEL, layout.samples),
        (tags::PLANAR_CONFIGURATION, 0),
        (tags::ROWS, layout.rows),
        (tags::COLUMNS, layout.columns),
        (tags::BITS_ALLOCATED, layout.bits),
        (tags::BITS_STORED, layout.bits),
        (tags::HIGH_BIT, layout.bits - 1),
        (tags::PIXEL_REPRESENTATION, 0),
    ];
    for (tag, number) in numbers {
        let number = u16::try_from(number).map_err(|_| Error::malformed("Rows or Columns is more than 65535"))?;
        object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(number)));
    }
    let photometric = PrimitiveValue::from("MONOCHROME2");
    object.put(DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric));
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, data));
    let decoded = object.decode_pixel_data_frame(0).map_err(|error| Error::codec(codec, innermost(&error)))?;
    Ok(decoded.into_data())
}

/// What the codec said: dicom-pixeldata only says that decoding failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
