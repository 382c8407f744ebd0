//! The heat map as a Secondary Capture image (PS3.3 A.8.1): shown wherever an image is.

use std::collections::BTreeSet;

use dataset::tags;
use dicom_core::VR;

use super::Raster;
use crate::{
    Error,
    codes::SOURCE_IMAGE,
    content::code_item,
    document::{Document, Provenance, Source},
    header::{self, put_laterality, put_moment},
    references::{Place, image_reference},
    uids::Kind,
};

/// The drawn heat map as an image of its own. `frame` is the frame, counted from 1, of the representative instance that it
/// was drawn over, where that has several.
pub fn secondary_capture(
    heat_map: &Raster,
    frame: Option<u32>,
    source: &Source<'_>,
    provenance: &Provenance,
) -> Result<Document, Error> {
    let mut object = header::begin(Kind::HeatMap, source, provenance, &[])?;
    let picture = heat_map;
    let wrong = || Error::Picture { width: heat_map.width, height: heat_map.height, pixels: heat_map.rgb.len() };
    if picture.rgb.len() != picture.width * picture.height * 3 {
        return Err(wrong());
    }
    let side = |length: usize| u16::try_from(length).map_err(|_| wrong());
    let (columns, rows) = (side(picture.width)?, side(picture.height)?);

    let to = &mut object.data_set;
    put_moment(to, (tags::CONTENT_DATE, tags::CONTENT_TIME), &provenance.content_time);
    put_laterality(to, &object.copier, true);
    to.put_bytes(tags::CONVERSION_TYPE, VR::CS, "WSD");
    to.put_bytes(tags::IMAGE_TYPE, VR::CS, "DERIVED\\SECONDARY");
    // The picture stands as the source does, but for its header.
    to.put_bytes(tags::PATIENT_ORIENTATION, VR::CS, "");
    to.put_bytes(tags::BURNED_IN_ANNOTATION, VR::CS, "YES");
    to.put_bytes(
        tags::DERIVATION_DESCRIPTION,
        VR::ST,
        "What the AI model attended to, drawn over the image: an illustration, not a segmentation. Not for measurements.",
    );
    let header = &source.representative.header;
    let image = |place: Place<'_>| {
        let frame = frame.filter(|_| place.instance == &header.sop_instance_uid);
        let mut item = image_reference(place.class, place.instance, frame);
        item.put_items(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![code_item(&SOURCE_IMAGE)]);
        item
    };
    let sources: BTreeSet<Place<'_>> = source.evidence.iter().map(Place::from).collect();
    to.put_items(tags::SOURCE_IMAGE_SEQUENCE, sources.into_iter().map(image).collect());
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 3),
        (tags::PLANAR_CONFIGURATION, 0),
        (tags::ROWS, rows),
        (tags::COLUMNS, columns),
        (tags::BITS_ALLOCATED, 8),
        (tags::BITS_STORED, 8),
        (tags::HIGH_BIT, 7),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        to.put_bytes(tag, VR::US, value.to_le_bytes());
    }
    to.put_bytes(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
    to.put_bytes(tags::PIXEL_DATA, VR::OB, picture.rgb.as_slice());
    object.finish()
}
