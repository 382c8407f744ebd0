use std::collections::{BTreeMap, BTreeSet};

use dataset::{Header, Uid, tags};

use crate::{
    can_decode,
    groups::header_numbers,
    series::{Plane, dot},
    views::View,
};

/// Which instances of a study a model should read, in reading order, and why the others are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Indices into the headers given, by series number, series, instance number, instance.
    pub chosen: Vec<usize>,
    /// Indices of the others in the same order, each with its reason.
    pub skipped: Vec<(usize, Reason)>,
}

/// Why an instance is not read. Its text is for the person who wonders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Our own reports and pictures never start a reading.
    #[error("made by preread itself: our own objects are never read")]
    OurOwn,
    /// The same SOP Instance UID came before.
    #[error("a duplicate: another file has the same SOP Instance UID")]
    Duplicate,
    /// A presentation state: how others are shown.
    #[error("a presentation state (by its SOP Class): it says how images are shown and is none")]
    PresentationState,
    /// A document, a plan, a waveform: nothing to look at.
    #[error("no pixel data: it is a document, a plan or a waveform, not an image")]
    NoPixelData,
    /// Pixels that are no picture of the patient.
    #[error("its pixels are a segmentation, a dose or a map, not a picture of the patient (by its SOP Class)")]
    NotAPicture,
    /// Secondary Capture.
    #[error("a Secondary Capture (by its SOP Class): a screen save or a scan, not an acquired image")]
    SecondaryCapture,
    /// A screen save or a scanned page in the SOP Class of a modality.
    #[error("a screen save or a scanned page (by Image Type (0008,0008) and Conversion Type (0008,0064))")]
    ScreenSave,
    /// Burned In Annotation (0028,0301).
    #[error("Burned In Annotation (0028,0301) is YES: text in the pixels may identify the patient and mislead a model")]
    BurnedInAnnotation,
    /// Image Type (0008,0008), value 3.
    #[error("a localizer (value 3 of Image Type (0008,0008)): it plans a scan and is not read")]
    Localizer,
    /// A localizer by its geometry.
    #[error("a localizer by its geometry: a few slices across the other slices of the study, which it plans")]
    LocalizerByGeometry,
    /// Presentation Intent Type (0008,0068).
    #[error("FOR PROCESSING (0008,0068), and the same view is there FOR PRESENTATION")]
    ForProcessing,
    /// MPEG-2, MPEG-4, HEVC and motion JPEG streams.
    #[error("a video (by its transfer syntax): videos are not read")]
    Video,
    /// No decoder.
    #[error("its transfer syntax cannot be decoded: ask the sender for another one")]
    TransferSyntax,
}

impl Reason {
    /// Whether there is nothing to look at: a document, a plan, a presentation state, a segmentation, our own object. A
    /// study of nothing else has nobody to wait for, and a report that does not speak of it has left nothing out.
    pub fn is_no_image(self) -> bool {
        matches!(self, Self::OurOwn | Self::PresentationState | Self::NoPixelData | Self::NotAPicture)
    }
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
    let mut seen = BTreeSet::new();
    let mut reasons: BTreeMap<usize, Reason> = BTreeMap::new();
    for &index in &order {
        let header = headers[index];
        // Files without identity are met; the absent UID makes them no duplicates.
        let known = header.require_identity().is_ok() && !seen.insert(header.sop_instance_uid.clone());
        let duplicate = known.then_some(Reason::Duplicate);
        if let Some(reason) = reason(header).or(duplicate) {
            reasons.insert(index, reason);
        }
    }
    let left = |reasons: &BTreeMap<usize, Reason>| -> Vec<usize> {
        order.iter().copied().filter(|index| !reasons.contains_key(index)).collect()
    };
    for index in raw_beside_presentation(headers, &left(&reasons)) {
        reasons.insert(index, Reason::ForProcessing);
    }
    for index in localizers(headers, &left(&reasons)) {
        reasons.insert(index, Reason::LocalizerByGeometry);
    }
    let mut selection = Selection::default();
    for index in order {
        match reasons.get(&index) {
            Some(reason) => selection.skipped.push((index, *reason)),
            None => selection.chosen.push(index),
        }
    }
    selection
}

fn reason(header: &Header) -> Option<Reason> {
    let class = header.sop_class_uid.as_str();
    let says = |tag, value: &str| header.text(tag).is_some_and(|text| text.eq_ignore_ascii_case(value));
    let image_type = header.texts(tags::IMAGE_TYPE);
    let is_type = |value: &String| ["LOCALIZER", "SCOUT"].iter().any(|name| value.eq_ignore_ascii_case(name));
    if header.is_our_own() {
        Some(Reason::OurOwn)
    } else if class.starts_with(PRESENTATION_STATES) {
        Some(Reason::PresentationState)
    } else if !header.has_pixel_data() {
        Some(Reason::NoPixelData)
    } else if NOT_PICTURES.contains(&class) {
        Some(Reason::NotAPicture)
    } else if SECONDARY_CAPTURES.contains(&class) {
        Some(Reason::SecondaryCapture)
    } else if is_screen_save(header, &image_type) {
        Some(Reason::ScreenSave)
    } else if says(tags::BURNED_IN_ANNOTATION, "YES") {
        Some(Reason::BurnedInAnnotation)
    } else if image_type.get(2).is_some_and(is_type) {
        Some(Reason::Localizer)
    } else if VIDEOS.iter().any(|prefix| header.transfer_syntax.uid().starts_with(prefix)) {
        Some(Reason::Video)
    } else if !can_decode(header.transfer_syntax) {
        Some(Reason::TransferSyntax)
    } else {
        None
    }
}

/// Whether an image of a modality's own SOP Class is what somebody saw on a screen or put on a scanner.
///
/// SECONDARY in Image Type alone says little: reformats, subtractions and anonymised copies have it too. It takes a word
/// for a screen save there; or SECONDARY without a place in the patient, and a Conversion Type of a screen or a scanner, or
/// colour where a modality's own images are grey.
fn is_screen_save(header: &Header, image_type: &[String]) -> bool {
    let named = image_type.iter().skip(2).any(|value| {
        let letters: String = value.chars().filter(char::is_ascii_alphabetic).collect();
        SCREEN_SAVES.contains(&letters.to_ascii_uppercase().as_str())
    });
    let secondary = image_type.get(1).is_some_and(|value| value.eq_ignore_ascii_case("SECONDARY"));
    let conversion = header.text(tags::CONVERSION_TYPE);
    let converted = conversion.is_some_and(|value| SCREEN_CONVERSIONS.contains(&value.to_ascii_uppercase().as_str()));
    let grey = ["CT", "MR", "CR", "DX", "MG", "PX", "IO"].contains(&header.modality().as_str());
    let coloured = header.integer(tags::SAMPLES_PER_PIXEL).is_some_and(|samples| samples > 1);
    let placed = header.raw(tags::IMAGE_POSITION_PATIENT).is_some();
    named || (secondary && !placed && (converted || (grey && coloured)))
}

/// What vendors write into Image Type for a screen save or a page of text, letters only.
const SCREEN_SAVES: [&str; 8] = [
    "SCREENSAVE",
    "SCREENSHOT",
    "SCREENCAPTURE",
    "SCREENSNAP",
    "DOSEREPORT",
    "DOSEINFO",
    "PROTOCOL",
    "PATIENTPROTOCOL",
];

/// Conversion Type (0008,0064): made on a workstation, a scanned document, a scanned picture, a drawing.
const SCREEN_CONVERSIONS: [&str; 4] = ["WSD", "SD", "SI", "DRW"];

const FOR_PROCESSING: &str = "FOR PROCESSING";
const FOR_PRESENTATION: &str = "FOR PRESENTATION";

/// Which of the chosen images are FOR PROCESSING while the same view is chosen FOR PRESENTATION. The reference between the
/// two, Source Image Sequence, is optional, so the view's own attributes decide.
fn raw_beside_presentation(headers: &[&Header], chosen: &[usize]) -> Vec<usize> {
    let intent = |index: usize| headers[index].text(tags::PRESENTATION_INTENT_TYPE).unwrap_or_default().to_uppercase();
    let view = |index: usize| {
        let header = headers[index];
        let View { laterality, projection, .. } = View::of(header, None);
        let part = header.text(tags::BODY_PART_EXAMINED);
        (header.study_instance_uid.clone(), header.modality(), part, laterality, projection)
    };
    let count = |wanted: &str| {
        let mut counts = BTreeMap::new();
        for index in chosen.iter().filter(|index| intent(**index) == wanted) {
            *counts.entry(view(*index)).or_insert(0usize) += 1;
        }
        counts
    };
    let (raw, shown) = (count(FOR_PROCESSING), count(FOR_PRESENTATION));
    let is_shown = |index: usize| {
        let view = view(index);
        let shown = shown.get(&view).copied().unwrap_or(0);
        // Without a projection (its code is in a sequence, which no header keeps) only numbers tell whether each is there.
        shown > 0 && (view.4.is_some() || raw.get(&view).is_none_or(|raw| shown >= *raw))
    };
    chosen.iter().copied().filter(|index| intent(*index) == FOR_PROCESSING && is_shown(*index)).collect()
}

/// Which of the chosen images plan the others, though they do not say so: in CT a single picture or two along the body
/// where there are stacks across it; in MR a series of a few slices in each of three directions where another series is
/// a stack. What is derived, as a reformat, is no localizer.
fn localizers(headers: &[&Header], chosen: &[usize]) -> Vec<usize> {
    let mut series: BTreeMap<(String, Uid, Uid), Vec<(usize, Plane)>> = BTreeMap::new();
    for &index in chosen {
        let header = headers[index];
        let values = |tag| header_numbers(header, tag);
        let plane = Plane::of(&values(tags::IMAGE_POSITION_PATIENT), &values(tags::IMAGE_ORIENTATION_PATIENT));
        let modality = header.modality();
        if let (Some(plane), "CT" | "MR") = (plane, modality.as_str()) {
            let key = (modality, header.study_instance_uid.clone(), header.series_instance_uid.clone());
            series.entry(key).or_default().push((index, plane));
        }
    }
    let is_derived = |index: usize| {
        let first = headers[index].texts(tags::IMAGE_TYPE).into_iter().next();
        first.is_none_or(|value| !value.eq_ignore_ascii_case("ORIGINAL"))
    };
    let mut largest: BTreeMap<(&String, &Uid), usize> = BTreeMap::new();
    for ((modality, study, _), images) in &series {
        let most = largest.entry((modality, study)).or_default();
        *most = most_in_one_direction(images).max(*most);
    }
    let mut found = Vec::new();
    for ((modality, study, _), images) in &series {
        if images.iter().any(|(index, _)| is_derived(*index)) {
            continue;
        }
        // A series that is the largest itself is not larger than itself.
        let largest = largest.get(&(modality, study)).copied().unwrap_or(0);
        let here = most_in_one_direction(images);
        let plans = match modality.as_str() {
            "CT" => images.len() <= MOST_SCOUTS && images.iter().all(|(_, plane)| is_along_body(plane)),
            _ => is_three_planes(images) && here <= MOST_IN_A_PLANE,
        };
        if plans && largest >= LEAST_OF_A_STACK && largest > here {
            found.extend(images.iter().map(|(index, _)| *index));
        }
    }
    found
}

const MOST_SCOUTS: usize = 3;
/// Slices of a localizer in each direction.
const MOST_IN_A_PLANE: usize = 11;
/// Fewer parallel slices than this plan nothing away.
const LEAST_OF_A_STACK: usize = 8;

fn is_along_body(plane: &Plane) -> bool {
    plane.normal()[2].abs() < 0.5
}

fn directions(images: &[(usize, Plane)]) -> Vec<([f64; 3], usize)> {
    let mut directions: Vec<([f64; 3], usize)> = Vec::new();
    for (_, plane) in images {
        let normal = plane.normal();
        match directions.iter_mut().find(|(known, _)| dot(*known, normal).abs() > 0.9) {
            Some((_, count)) => *count += 1,
            None => directions.push((normal, 1)),
        }
    }
    directions
}

fn most_in_one_direction(images: &[(usize, Plane)]) -> usize {
    directions(images).iter().map(|(_, count)| *count).max().unwrap_or(0)
}

/// Three directions, each nearly at right angles to the others.
fn is_three_planes(images: &[(usize, Plane)]) -> bool {
    let found = directions(images);
    let across = |a: &[f64; 3], b: &[f64; 3]| dot(*a, *b).abs() < 0.5;
    match found.as_slice() {
        [(a, _), (b, _), (c, _)] => across(a, b) && across(a, c) && across(b, c),
        _ => false,
    }
}

/// The SOP classes of presentation states begin with this (PS3.4 table B.5-1).
const PRESENTATION_STATES: &str = "1.2.840.10008.5.1.4.1.1.11.";

/// Transfer syntaxes of video: MPEG-2, MPEG-4 AVC/H.264 and HEVC (PS3.6 table A-1), and SMPTE ST 2110.
const VIDEOS: [&str; 2] = ["1.2.840.10008.1.2.4.10", "1.2.840.10008.1.2.7."];

/// Storage SOP classes of PS3.4 table B.5-1 with pixels that are computed, not seen.
const NOT_PICTURES: [&str; 7] = [
    "1.2.840.10008.5.1.4.1.1.66.4",  // Segmentation
    "1.2.840.10008.5.1.4.1.1.66.7",  // Label Map Segmentation
    "1.2.840.10008.5.1.4.1.1.66.8",  // Height Map Segmentation
    "1.2.840.10008.5.1.4.1.1.30",    // Parametric Map
    "1.2.840.10008.5.1.4.1.1.481.2", // RT Dose
    "1.2.840.10008.5.1.4.1.1.68.2",  // Surface Scan Point Cloud
    "1.2.840.10008.5.1.4.1.1.66",    // Raw Data
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
    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

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
        let check = |header: Header, expected| assert_eq!(skipped(header), expected);
        let cr = |values: &[(Tag, &str)]| header(CR, "1", values);
        check(cr(&[]), None);
        check(cr(&[(tags::MANUFACTURER, dataset::MANUFACTURER)]), Some(Reason::OurOwn));
        check(header("1.2.840.10008.5.1.4.1.1.66.4", "1", &[]), Some(Reason::NotAPicture));
        check(header("1.2.840.10008.5.1.4.1.1.7", "1", &[]), Some(Reason::SecondaryCapture));
        check(header("1.2.840.10008.5.1.4.1.1.11.1", "1", &[]), Some(Reason::PresentationState));
        check(cr(&[(tags::BURNED_IN_ANNOTATION, "YES ")]), Some(Reason::BurnedInAnnotation));
        check(cr(&[(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\LOCALIZER")]), Some(Reason::Localizer));
        check(in_syntax(CR, "1", &[], "1.2.840.10008.1.2.4.65"), Some(Reason::TransferSyntax));
        check(in_syntax(CR, "1", &[], "1.2.840.10008.1.2.4.100"), Some(Reason::Video));
        let document = Scan { has_pixel_data: false, ..Scan::default() };
        let document = Header::from_scan(document, TransferSyntax::from_uid("1.2.840.10008.1.2").unwrap());
        check(document, Some(Reason::NoPixelData));
        let (first, again) = (cr(&[]), cr(&[]));
        assert_eq!(choose(&[&first, &again]).skipped, [(1, Reason::Duplicate)]);
    }

    #[test]
    fn a_screen_save_is_one_by_more_than_the_word_secondary() {
        let check = |modality, image_type, more: &[(Tag, &str)], expected| {
            let mut values = vec![(tags::MODALITY, modality), (tags::IMAGE_TYPE, image_type)];
            values.extend(more);
            assert_eq!(skipped(header(CT, "1", &values)), expected, "{values:?}");
        };
        let save = Some(Reason::ScreenSave);
        let placed = (tags::IMAGE_POSITION_PATIENT, "1\\2\\3");
        check("CT", "DERIVED\\SECONDARY\\SCREEN SAVE", &[], save);
        check("US", "ORIGINAL\\PRIMARY\\SCREEN_SAVE", &[], save);
        check("CT", "DERIVED\\SECONDARY\\REFORMATTED\\AVERAGE", &[placed], None);
        check("MR", "DERIVED\\SECONDARY", &[], None);
        check("CT", "DERIVED\\SECONDARY", &[(tags::CONVERSION_TYPE, "WSD")], save);
        check("CT", "DERIVED\\SECONDARY", &[(tags::CONVERSION_TYPE, "WSD"), placed], None);
        check("MG", "ORIGINAL\\PRIMARY", &[(tags::CONVERSION_TYPE, "WSD")], None);
        check("CT", "DERIVED\\SECONDARY", &[(tags::SAMPLES_PER_PIXEL, "3")], save);
        check("US", "DERIVED\\SECONDARY", &[(tags::SAMPLES_PER_PIXEL, "3")], None);
    }

    #[test]
    fn localizers_are_found_by_their_geometry() {
        const AXIAL: &str = "1\\0\\0\\0\\1\\0";
        const CORONAL: &str = "1\\0\\0\\0\\0\\-1";
        const SAGITTAL: &str = "0\\1\\0\\0\\0\\-1";
        type Series<'a> = (&'a str, &'a [(&'a str, usize)]);
        let check = |modality: &str, series: &[Series<'_>], expected: &[usize]| {
            let mut headers = Vec::new();
            for (number, (image_type, directions)) in (1..).zip(series) {
                for (orientation, count) in *directions {
                    for _ in 0..*count {
                        let uid = format!("1.{}", headers.len() + 1);
                        let values = [
                            (tags::SERIES_INSTANCE_UID, format!("1.3.{number}")),
                            (tags::MODALITY, modality.to_owned()),
                            (tags::IMAGE_TYPE, format!("{image_type}\\PRIMARY\\OTHER")),
                            (tags::IMAGE_POSITION_PATIENT, format!("{number}\\0\\{}", headers.len())),
                            (tags::IMAGE_ORIENTATION_PATIENT, (*orientation).to_owned()),
                        ];
                        let values: Vec<_> = values.iter().map(|(tag, text)| (*tag, text.as_str())).collect();
                        headers.push(header(CT, &uid, &values));
                    }
                }
            }
            let mut skipped = choose(&headers.iter().collect::<Vec<_>>()).skipped;
            skipped.sort_unstable();
            assert!(skipped.iter().all(|(_, reason)| *reason == Reason::LocalizerByGeometry));
            assert_eq!(skipped.iter().map(|(index, _)| *index).collect::<Vec<_>>(), expected, "{modality} {series:?}");
        };
        let stack: Series<'_> = ("ORIGINAL", &[(AXIAL, 20)]);
        check("CT", &[("ORIGINAL", &[(CORONAL, 1), (SAGITTAL, 1)]), stack], &[0, 1]);
        check("CT", &[("DERIVED", &[(CORONAL, 1)]), stack], &[]);
        check("CT", &[("ORIGINAL", &[(CORONAL, 9)]), stack], &[]);
        check("CT", &[("ORIGINAL", &[(CORONAL, 1)])], &[]);
        let three: Series<'_> = ("ORIGINAL", &[(AXIAL, 1), (CORONAL, 2), (SAGITTAL, 1)]);
        check("MR", &[three, stack], &[0, 1, 2, 3]);
        check("MR", &[three], &[]);
        check("MR", &[("ORIGINAL", &[(CORONAL, 4)]), stack], &[]);
        check("MR", &[("ORIGINAL", &[(AXIAL, 18), (CORONAL, 18), (SAGITTAL, 18)]), stack], &[]);
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
        // The presentation is no image for reading itself.
        let burned_in = header(
            DX,
            "4",
            &[
                (tags::PRESENTATION_INTENT_TYPE, FOR_PRESENTATION),
                (tags::VIEW_POSITION, "PA"),
                (tags::BURNED_IN_ANNOTATION, "YES"),
            ],
        );
        assert_eq!(choose(&[&raw, &burned_in]).chosen, [0]);
        // Views that only codes tell apart: one presentation does not stand for two of them.
        let bare = |uid, intent| header(DX, uid, &[(tags::PRESENTATION_INTENT_TYPE, intent)]);
        let (one, two) = (bare("5", FOR_PROCESSING), bare("6", FOR_PROCESSING));
        let (shown, too) = (bare("7", FOR_PRESENTATION), bare("8", FOR_PRESENTATION));
        assert_eq!(choose(&[&one, &two, &shown]).chosen, [0, 1, 2]);
        assert_eq!(choose(&[&one, &two, &shown, &too]).chosen, [2, 3]);
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
