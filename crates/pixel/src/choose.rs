use dataset::{Header, tags};

use crate::can_decode;

/// Which instances of a study a model should read, in reading order, and why the others are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Indices into the headers given, by series number, series, instance number, instance.
    pub chosen: Vec<usize>,
    /// Indices of the others in the same order, each with its reason.
    pub skipped: Vec<(usize, Reason)>,
}

/// Why an instance is not read. Its text is for the person who wonders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Our own reports and pictures never start a reading.
    #[error("made by preread itself: our own objects are never read")]
    OurOwn,
    /// A document, a presentation state, a plan: nothing to look at.
    #[error("no pixel data: it is a document, a state or a plan, not an image")]
    NoPixelData,
    /// Pixels that are no picture of the patient.
    #[error("its pixels are a segmentation, a dose or a map, not a picture of the patient (by its SOP Class)")]
    NotAPicture,
    /// Secondary Capture: a screen save, a scanned form, a summary.
    #[error("a Secondary Capture (by its SOP Class): a screen save or a scan, not an acquired image")]
    SecondaryCapture,
    /// Burned In Annotation (0028,0301).
    #[error("Burned In Annotation (0028,0301) is YES: text in the pixels may identify the patient and mislead a model")]
    BurnedInAnnotation,
    /// Image Type (0008,0008), value 3.
    #[error("a localizer (value 3 of Image Type (0008,0008)): it plans a scan and is not read")]
    Localizer,
    /// Presentation Intent Type (0008,0068).
    #[error("FOR PROCESSING (0008,0068), and the same view is there FOR PRESENTATION")]
    ForProcessing,
    /// No decoder.
    #[error("its transfer syntax cannot be decoded: ask the sender for another one")]
    TransferSyntax,
}

/// Chooses the instances that a model should read. The order of `headers` makes no difference but to the indices.
pub fn choose(headers: &[&Header]) -> Selection {
    let mut order: Vec<usize> = (0..headers.len()).collect();
    order.sort_by_cached_key(|&index| {
        let header = headers[index];
        // Instances without a number come last, in the order of their UIDs.
        let number = |tag| header.integer(tag).unwrap_or(i64::MAX);
        (
            number(tags::SERIES_NUMBER),
            header.series_instance_uid.clone(),
            number(tags::INSTANCE_NUMBER),
            header.sop_instance_uid.clone(),
            index,
        )
    });
    let mut selection = Selection::default();
    for index in order {
        match reason(headers[index], headers) {
            Some(reason) => selection.skipped.push((index, reason)),
            None => selection.chosen.push(index),
        }
    }
    selection
}

fn reason(header: &Header, all: &[&Header]) -> Option<Reason> {
    let class = header.sop_class_uid.as_str();
    let says = |tag, value: &str| header.text(tag).is_some_and(|text| text.eq_ignore_ascii_case(value));
    if header.is_our_own() {
        Some(Reason::OurOwn)
    } else if !header.has_pixel_data() {
        Some(Reason::NoPixelData)
    } else if NOT_PICTURES.contains(&class) {
        Some(Reason::NotAPicture)
    } else if SECONDARY_CAPTURES.contains(&class) {
        Some(Reason::SecondaryCapture)
    } else if says(tags::BURNED_IN_ANNOTATION, "YES") {
        Some(Reason::BurnedInAnnotation)
    } else if header.texts(tags::IMAGE_TYPE).get(2).is_some_and(|value| value.eq_ignore_ascii_case("LOCALIZER")) {
        Some(Reason::Localizer)
    } else if says(tags::PRESENTATION_INTENT_TYPE, FOR_PROCESSING) && has_presentation(header, all) {
        Some(Reason::ForProcessing)
    } else if !can_decode(header.transfer_syntax) {
        Some(Reason::TransferSyntax)
    } else {
        None
    }
}

const FOR_PROCESSING: &str = "FOR PROCESSING";
const FOR_PRESENTATION: &str = "FOR PRESENTATION";

/// Whether the view of a FOR PROCESSING image is there FOR PRESENTATION. The reference between the two, Source Image
/// Sequence, is optional, so the view's own attributes decide.
fn has_presentation(header: &Header, all: &[&Header]) -> bool {
    let view = |header: &Header| {
        let texts =
            [tags::MODALITY, tags::BODY_PART_EXAMINED, tags::VIEW_POSITION, tags::IMAGE_LATERALITY, tags::LATERALITY];
        texts.map(|tag| header.text(tag))
    };
    all.iter().any(|other| {
        other.study_instance_uid == header.study_instance_uid
            && other.text(tags::PRESENTATION_INTENT_TYPE).as_deref() == Some(FOR_PRESENTATION)
            && view(other) == view(header)
    })
}

/// Storage SOP classes of PS3.4 table B.5-1 with pixels that are computed, not seen.
const NOT_PICTURES: [&str; 5] = [
    "1.2.840.10008.5.1.4.1.1.66.4",  // Segmentation
    "1.2.840.10008.5.1.4.1.1.66.7",  // Label Map Segmentation
    "1.2.840.10008.5.1.4.1.1.30",    // Parametric Map
    "1.2.840.10008.5.1.4.1.1.481.2", // RT Dose
    "1.2.840.10008.5.1.4.1.1.68.2",  // Surface Scan Point Cloud
];

const SECONDARY_CAPTURES: [&str; 5] = [
    "1.2.840.10008.5.1.4.1.1.7",   // Secondary Capture
    "1.2.840.10008.5.1.4.1.1.7.1", // Multi-frame Single Bit
    "1.2.840.10008.5.1.4.1.1.7.2", // Multi-frame Grayscale Byte
    "1.2.840.10008.5.1.4.1.1.7.3", // Multi-frame Grayscale Word
    "1.2.840.10008.5.1.4.1.1.7.4", // Multi-frame True Color
];

#[cfg(test)]
mod tests {
    use dataset::{
        TransferSyntax,
        gate::{RawValue, Scan},
    };
    use dicom_core::{Tag, VR};

    use super::*;

    const CR: &str = "1.2.840.10008.5.1.4.1.1.1";
    const DX: &str = "1.2.840.10008.5.1.4.1.1.1.1";

    fn header(class: &str, uid: &str, values: &[(Tag, &str)]) -> Header {
        in_syntax(class, uid, values, TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN)
    }

    fn in_syntax(class: &str, uid: &str, values: &[(Tag, &str)], syntax: &str) -> Header {
        let identity = [
            (tags::SOP_CLASS_UID, class),
            (tags::SOP_INSTANCE_UID, uid),
            (tags::STUDY_INSTANCE_UID, "1.2"),
            (tags::SERIES_INSTANCE_UID, "1.3"),
        ];
        let value = |text: &str| RawValue { vr: VR::CS, bytes: text.as_bytes().to_vec() };
        let values = identity.iter().chain(values).map(|(tag, text)| (*tag, value(text))).collect();
        let scan = Scan { values, has_pixel_data: true, ..Scan::default() };
        Header::from_scan(scan, TransferSyntax::from_uid(syntax).unwrap())
    }

    fn skipped(header: Header) -> Option<Reason> {
        choose(&[&header]).skipped.first().map(|(_, reason)| *reason)
    }

    #[test]
    fn each_reason_is_found() {
        assert_eq!(skipped(header(CR, "1", &[])), None);
        assert_eq!(skipped(header(CR, "1", &[(tags::MANUFACTURER, dataset::MANUFACTURER)])), Some(Reason::OurOwn));
        assert_eq!(skipped(header("1.2.840.10008.5.1.4.1.1.66.4", "1", &[])), Some(Reason::NotAPicture));
        assert_eq!(skipped(header("1.2.840.10008.5.1.4.1.1.7", "1", &[])), Some(Reason::SecondaryCapture));
        assert_eq!(skipped(header(CR, "1", &[(tags::BURNED_IN_ANNOTATION, "YES ")])), Some(Reason::BurnedInAnnotation));
        let localizer = [(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\LOCALIZER")];
        assert_eq!(skipped(header(CR, "1", &localizer)), Some(Reason::Localizer));
        assert_eq!(skipped(in_syntax(CR, "1", &[], "1.2.840.10008.1.2.4.100")), Some(Reason::TransferSyntax));
        let document = Scan { has_pixel_data: false, ..Scan::default() };
        let document = Header::from_scan(document, TransferSyntax::from_uid("1.2.840.10008.1.2").unwrap());
        assert_eq!(skipped(document), Some(Reason::NoPixelData));
    }

    #[test]
    fn raw_data_is_read_only_when_nothing_better_is_there() {
        let of = |uid: &str, intent, view| {
            header(DX, uid, &[(tags::PRESENTATION_INTENT_TYPE, intent), (tags::VIEW_POSITION, view)])
        };
        let (raw, shown, other) =
            (of("1", FOR_PROCESSING, "PA"), of("2", FOR_PRESENTATION, "PA"), of("3", FOR_PROCESSING, "LL"));
        let selection = choose(&[&raw, &shown, &other]);
        assert_eq!(selection.chosen, [1, 2]);
        assert_eq!(selection.skipped, [(0, Reason::ForProcessing)]);
        assert_eq!(choose(&[&raw]).chosen, [0]);
    }

    #[test]
    fn the_order_is_that_of_the_numbers_and_then_of_the_uids() {
        let of = |uid: &str, series, instance| {
            header(CR, uid, &[(tags::SERIES_NUMBER, series), (tags::INSTANCE_NUMBER, instance)])
        };
        let headers = [
            of("1.9", "2", "1"),
            of("1.8", "1", "10"),
            of("1.7", "1", "2"),
            of("1.6", "1", "2"),
            header(CR, "1.1", &[]),
        ];
        let refs: Vec<&Header> = headers.iter().collect();
        assert_eq!(choose(&refs).chosen, [3, 2, 1, 0, 4]);
    }
}
