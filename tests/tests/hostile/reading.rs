//! What is kept and then read: sizes that wrap, code streams and tables that lie, attributes of another type than they
//! should have. Each study ends in a state that a person can see, and the reader goes on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dicom_core::{
    DataElement, PrimitiveValue, Tag, VR,
    header::Length,
    value::{DataSetSequence, PixelFragmentSequence, Value},
};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{InMemDicomObject, mem::InMemElement};
use e2e::{
    daemon::{AE_TITLE, Setup},
    instance::Instance,
    scu::Scu,
    wait,
};

use super::{
    raw::{UNDEFINED, altered, altered_as, element, header, item},
    watched::Watched,
};

const PATIENCE: Duration = Duration::from_secs(90);

/// What becomes of a study.
#[derive(Clone, Copy)]
enum Due {
    /// A person has to look, and is told this.
    Held(&'static str),
    /// It is read all the same, or held: both are right.
    Ends,
}
use Due::{Ends, Held};

type Row = (String, Instance, Due);

/// Stores every instance as a study of its own, and waits until each has ended.
fn check_ends(rows: &[Row]) -> Result<()> {
    let setup = Setup { when: "true".into(), quiet_period: "1s".into(), ..Setup::default() };
    let mut watched = Watched::start(&setup)?;
    // One at a time may propose no more than 128 contexts; these are few, because most rows share theirs.
    let instances: Vec<Instance> = rows.iter().map(|(_, instance, _)| instance.clone()).collect();
    let mut scu = Scu::for_instances(&watched.daemon.address(), "MODALITY", AE_TITLE, &instances)?;
    for (what, instance, _) in rows {
        assert_eq!(scu.store(instance)?, 0, "{what}");
    }
    scu.release()?;
    let ended = wait::until("every study to end", PATIENCE, || {
        let queue = watched.daemon.queue()?;
        let open = |entry: &serde_json::Value| {
            !matches!(entry["state"].as_str(), Some("held" | "skipped" | "delivered" | "written"))
        };
        Ok((!queue.iter().any(open)).then_some(queue))
    })?;
    for (what, instance, due) in rows {
        let entry = ended.iter().find(|entry| entry["study_instance_uid"] == instance.study_instance_uid);
        let entry = entry.with_context(|| format!("{what}: no study"))?;
        eprintln!("{what}: {} {}", entry["state"], entry["reason"]);
        if let Held(reason) = due {
            let said = entry["reason"].as_str().unwrap_or_default();
            ensure!(entry["state"] == "held" && said.contains(reason), "{what}: {entry}");
        }
    }
    watched.check()
}

fn number(tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) -> InMemElement {
    DataElement::new(tag, vr, value.into())
}

/// CVE-2026-5442, 5443, 5444: sizes that wrap, in 32 bits and in 64.
#[test]
fn sizes_that_wrap_are_found_out() -> Result<()> {
    let rows_and_columns =
        |rows: u32, columns: u32| [number(tags::ROWS, VR::UL, rows), number(tags::COLUMNS, VR::UL, columns)];
    let us = |tag, value: u16| number(tag, VR::US, value);
    let frames = |text: &str| number(tags::NUMBER_OF_FRAMES, VR::IS, text);
    let rows: Vec<(&str, Due, Vec<InMemElement>)> = vec![
        ("65536 x 65536 as UL", Held("is not a value of VR US"), rows_and_columns(1 << 16, 1 << 16).to_vec()),
        ("2^32 - 1 rows as UL", Held("is not a value of VR US"), rows_and_columns(u32::MAX, 64).to_vec()),
        (
            "65535 x 65535",
            Held("4294836225 pixels per frame"),
            vec![us(tags::ROWS, u16::MAX), us(tags::COLUMNS, u16::MAX)],
        ),
        (
            "2^48 pixels in all",
            Held("4294836225 pixels per frame"),
            vec![us(tags::ROWS, u16::MAX), us(tags::COLUMNS, u16::MAX), frames("65536")],
        ),
        ("no rows", Held("is 0"), vec![us(tags::ROWS, 0)]),
        ("2^31 - 1 frames", Held("2147483647 frames is more than"), vec![frames("2147483647")]),
        ("2^32 + 1 frames", Held("4294967297 frames is more than"), vec![frames("4294967297")]),
        ("2^64 + 1 frames", Held("is not a number of frames"), vec![frames("18446744073709551617")]),
        ("-1 frames", Held("is not a number of frames"), vec![frames("-1")]),
        ("frames in words", Held("is not a number of frames"), vec![frames("many")]),
        ("65535 samples", Held("is neither 1, 3 nor 4"), vec![us(tags::SAMPLES_PER_PIXEL, u16::MAX)]),
        ("no samples", Held("is neither 1, 3 nor 4"), vec![us(tags::SAMPLES_PER_PIXEL, 0)]),
        (
            "65535 bits",
            Held("Bits Allocated 65535"),
            vec![us(tags::BITS_ALLOCATED, u16::MAX), us(tags::BITS_STORED, u16::MAX)],
        ),
        (
            "no bits",
            Held("Bits Allocated (0028,0100) is 0"),
            vec![us(tags::BITS_ALLOCATED, 0), us(tags::BITS_STORED, 0)],
        ),
        ("more bits stored than allocated", Held("more than Bits Allocated"), vec![us(tags::BITS_STORED, 17)]),
        ("a high bit far out", Held("High Bit"), vec![us(tags::HIGH_BIT, u16::MAX)]),
        ("one row more than pixels", Held("4160 bytes are due, 4096 are there"), vec![us(tags::ROWS, 65)]),
        (
            "no pixels",
            Held("4096 bytes are due, 0 are there"),
            vec![number(tags::PIXEL_DATA, VR::OB, PrimitiveValue::Empty)],
        ),
    ];
    let mut all = Vec::new();
    for (seed, (what, due, elements)) in (1000..).zip(rows) {
        let instance = altered(seed, |object| {
            for element in elements {
                object.put(element);
            }
        })?;
        all.push((what.to_owned(), instance, due));
    }
    check_ends(&all)
}

/// Pixel data in fragments, the first of which is the basic offset table.
fn fragments(object: &mut InMemDicomObject, offsets: &[u32], fragments: Vec<Vec<u8>>) {
    let value = Value::PixelSequence(PixelFragmentSequence::new(offsets.to_vec(), fragments));
    object.put(DataElement::new_with_len(tags::PIXEL_DATA, VR::OB, Length::UNDEFINED, value));
}

/// A JPEG file of these dimensions (ITU-T T.81 annex B): frame header, scan header, `body`.
fn jpeg(rows: u16, columns: u16, body: &[u8]) -> Vec<u8> {
    let ([r1, r0], [c1, c0]) = (rows.to_be_bytes(), columns.to_be_bytes());
    let frame = [0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, r1, r0, c1, c0, 1, 1, 0x11, 0];
    [&frame[..], &[0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0], body, &[0xff, 0xd9]].concat()
}

/// The start of a JPEG 2000 code stream of these dimensions, and its end (ITU-T T.800 annex A).
fn jpeg2000(rows: u32, columns: u32) -> Vec<u8> {
    let mut stream = vec![0xff, 0x4f, 0xff, 0x51, 0, 41, 0, 0];
    for number in [columns, rows, 0, 0, columns, rows, 0, 0] {
        stream.extend(number.to_be_bytes());
    }
    stream.extend([0, 1, 7, 1, 1]);
    // One component's coding and quantisation, a tile without data.
    stream.extend([0xff, 0x52, 0, 12, 0, 0, 0, 1, 0, 5, 4, 4, 0, 1, 0xff, 0x5c, 0, 4, 0x40, 0x40]);
    stream.extend([0xff, 0x90, 0, 10, 0, 0, 0, 0, 0, 14, 0, 1, 0xff, 0x93, 0xff, 0xd9]);
    stream
}

/// The start of a JPEG-LS stream of these dimensions, and its end (ITU-T T.87 annex C).
fn jpeg_ls(rows: u16, columns: u16) -> Vec<u8> {
    let ([r1, r0], [c1, c0]) = (rows.to_be_bytes(), columns.to_be_bytes());
    let head = [0xff, 0xd8, 0xff, 0xf7, 0, 11, 8, r1, r0, c1, c0, 1, 1, 0x11, 0];
    [&head[..], &[0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0], &[0; 16], &[0xff, 0xd9]].concat()
}

/// An RLE header (PS3.5 G.5) with these offsets.
fn rle(segments: u32, offsets: [u32; 15], body: &[u8]) -> Vec<u8> {
    let mut fragment = segments.to_le_bytes().to_vec();
    fragment.extend(offsets.into_iter().flat_map(u32::to_le_bytes));
    fragment.extend(body);
    fragment
}

/// A name, what is due, the transfer syntax, the basic offset table, the fragments.
type Stream<'a> = (&'a str, Due, &'a str, Vec<u32>, Vec<Vec<u8>>);

/// CVE-2026-5439, 5441, 5445 and fo-dicom #2165: code streams that claim more than there is, and offsets that lead out.
#[test]
fn code_streams_that_lie_are_found_out() -> Result<()> {
    let mut first = [0; 15];
    first[0] = 64;
    let mut far = first;
    far[1..].fill(0xffff_fff0);
    let streams: Vec<Stream> = vec![
        (
            "JPEG of 65535 x 65535",
            Held("65535 rows"),
            uids::JPEG_BASELINE8_BIT,
            vec![],
            vec![jpeg(65535, 65535, &[0; 64])],
        ),
        ("JPEG of no rows", Held("malformed"), uids::JPEG_BASELINE8_BIT, vec![], vec![jpeg(0, 64, &[])]),
        (
            "JPEG that is cut short",
            Held("ends before its first scan"),
            uids::JPEG_BASELINE8_BIT,
            vec![],
            vec![jpeg(64, 64, &[])[..12].to_vec()],
        ),
        ("JPEG of another size", Held("96 rows"), uids::JPEG_BASELINE8_BIT, vec![], vec![jpeg(96, 128, &[0; 200])]),
        (
            "JPEG lossless of 65535 x 65535",
            Held("65535 rows"),
            uids::JPEG_LOSSLESS_SV1,
            vec![],
            vec![jpeg(65535, 65535, &[0; 64])],
        ),
        (
            "JPEG 2000 of 2^31 - 1 squared",
            Held("2147483647 rows"),
            uids::JPEG2000_LOSSLESS,
            vec![],
            vec![jpeg2000(0x7fff_ffff, 0x7fff_ffff)],
        ),
        (
            "JPEG 2000 of 65535 x 65535",
            Held("65535 rows"),
            uids::JPEG2000_LOSSLESS,
            vec![],
            vec![jpeg2000(65535, 65535)],
        ),
        ("HTJ2K of 65535 x 65535", Held("65535 rows"), uids::HTJ2K_LOSSLESS, vec![], vec![jpeg2000(65535, 65535)]),
        ("JPEG-LS of 65535 x 65535", Held("65535 rows"), uids::JPEGLS_LOSSLESS, vec![], vec![jpeg_ls(65535, 65535)]),
        (
            "no code stream at all",
            Held("neither a codestream"),
            uids::JPEG2000_LOSSLESS,
            vec![],
            vec![b"not a code stream".to_vec()],
        ),
        (
            "an empty fragment",
            Held("does not begin with a start-of-image marker"),
            uids::JPEG_BASELINE8_BIT,
            vec![],
            vec![vec![]],
        ),
        ("no fragment", Held("0 are there"), uids::JPEG_BASELINE8_BIT, vec![], vec![]),
        ("RLE cut in its header", Held("cut short"), uids::RLE_LOSSLESS, vec![], vec![vec![1, 0, 0, 0, 64]]),
        (
            "RLE of too many segments",
            Held("number of segments"),
            uids::RLE_LOSSLESS,
            vec![],
            vec![rle(u32::MAX, far, &[0; 64])],
        ),
        (
            "RLE with offsets that lead out",
            Held("number of segments"),
            uids::RLE_LOSSLESS,
            vec![],
            vec![rle(15, far, &[0; 64])],
        ),
        (
            "RLE with a run beyond its end",
            Held("before the frame is full"),
            uids::RLE_LOSSLESS,
            vec![],
            vec![rle(1, first, &[127, 1, 2, 3])],
        ),
        ("RLE with too many bytes", Ends, uids::RLE_LOSSLESS, vec![], vec![rle(1, first, &[0x81, 7].repeat(40_000))]),
        (
            "offsets that lead out",
            Ends,
            uids::RLE_LOSSLESS,
            vec![0xffff_fff0, 7],
            vec![rle(1, first, &[0x81, 7].repeat(32))],
        ),
        (
            "more offsets than fragments",
            Ends,
            uids::RLE_LOSSLESS,
            vec![0; 4_000],
            vec![rle(1, first, &[0x81, 7].repeat(32))],
        ),
    ];
    let mut all = Vec::new();
    for (seed, (what, due, syntax, offsets, streams)) in (1100..).zip(streams) {
        let instance = altered_as(seed, syntax, |object| fragments(object, &offsets, streams))?;
        all.push((what.to_owned(), instance, due));
    }
    // Flat, and endless for a parser that does not see that an item is over.
    let no_fragment = [header(tags::PIXEL_DATA, b"OB", UNDEFINED), item(0xe0dd, 0)].concat();
    let length = u32::try_from(no_fragment.len())?;
    let in_item = element(tags::CONTENT_SEQUENCE, b"SQ", &[item(0xe000, length), no_fragment].concat());
    let mut seemingly_nested = altered(1150, |_| ())?;
    seemingly_nested.data_set.extend(in_item.repeat(20_000));
    all.push(("sequences that seem to nest".to_owned(), seemingly_nested, Ends));
    check_ends(&all)
}

/// CVE-2026-5445: indexes and descriptors of look-up tables.
#[test]
fn tables_that_lie_are_found_out() -> Result<()> {
    let us = |tag, values: &[u16]| number(tag, VR::US, PrimitiveValue::U16(values.into()));
    let ow = |tag, values: &[u16]| number(tag, VR::OW, PrimitiveValue::U16(values.into()));
    let lut = |descriptor: &[u16], data: &[u16]| {
        let mut item = InMemDicomObject::new_empty();
        item.put(us(tags::LUT_DESCRIPTOR, descriptor));
        item.put(ow(tags::LUT_DATA, data));
        DataSetSequence::from(vec![item])
    };
    let sequence = |tag, items| DataElement::new(tag, VR::SQ, items);
    let palette = |descriptor: &[u16], data: &[u16]| {
        vec![
            number(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PALETTE COLOR"),
            us(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, descriptor),
            us(tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, descriptor),
            us(tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, descriptor),
            ow(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA, data),
            ow(tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA, data),
            ow(tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA, data),
        ]
    };
    let ds = |tag, text: &str| number(tag, VR::DS, text);
    let rows: Vec<(&str, Due, Vec<InMemElement>)> = vec![
        ("a palette of one entry", Ends, palette(&[1, 0, 16], &[7])),
        (
            "a palette of 65536 entries that has two",
            Held("fewer entries than its descriptor says"),
            palette(&[0, 0, 16], &[7, 8]),
        ),
        ("a palette that begins far out", Ends, palette(&[256, 65535, 16], &[7; 256])),
        ("a palette of 255 bits", Held("LUT Descriptor"), palette(&[256, 0, 255], &[7; 256])),
        ("a palette without descriptors", Held("LUT Descriptor"), palette(&[], &[])),
        ("a palette with half a descriptor", Held("LUT Descriptor"), palette(&[256], &[7; 256])),
        ("a VOI table of nothing", Held("LUT Descriptor"), vec![sequence(tags::VOILUT_SEQUENCE, lut(&[0, 0, 0], &[]))]),
        (
            "a VOI table shorter than it says",
            Held("fewer entries than its descriptor says"),
            vec![sequence(tags::VOILUT_SEQUENCE, lut(&[65535, 0, 16], &[1, 2]))],
        ),
        (
            "a modality table of 1 bit",
            Held("LUT Descriptor"),
            vec![sequence(tags::MODALITY_LUT_SEQUENCE, lut(&[2, 0, 1], &[1, 2]))],
        ),
        ("a modality table far out", Ends, vec![sequence(tags::MODALITY_LUT_SEQUENCE, lut(&[1, 65535, 16], &[1]))]),
        ("a window of no width", Ends, vec![ds(tags::WINDOW_CENTER, "0"), ds(tags::WINDOW_WIDTH, "0")]),
        (
            "a window that is no number",
            Held("is not a finite number"),
            vec![ds(tags::WINDOW_CENTER, "NaN"), ds(tags::WINDOW_WIDTH, "1e999")],
        ),
        ("a slope of nothing", Ends, vec![ds(tags::RESCALE_SLOPE, "0"), ds(tags::RESCALE_INTERCEPT, "1e308")]),
        ("a slope without end", Ends, vec![ds(tags::RESCALE_SLOPE, "1e308"), ds(tags::RESCALE_INTERCEPT, "-1e308")]),
        (
            "unknown colours",
            Held("Photometric Interpretation"),
            vec![number(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PLANTED")],
        ),
        (
            "a plane that is not there",
            Held("Samples per Pixel contradicts"),
            vec![us(tags::PLANAR_CONFIGURATION, &[65535]), us(tags::SAMPLES_PER_PIXEL, &[3])],
        ),
    ];
    let mut all = Vec::new();
    for (seed, (what, due, elements)) in (1200..).zip(rows) {
        let instance = altered(seed, |object| {
            for element in elements {
                object.put(element);
            }
        })?;
        all.push((what.to_owned(), instance, due));
    }
    check_ends(&all)
}

/// Every attribute that something here reads, the identifiers left out (see [`identifiers_of_another_type`]).
const READ: [Tag; 58] = [
    tags::SPECIFIC_CHARACTER_SET,
    tags::IMAGE_TYPE,
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACCESSION_NUMBER,
    tags::MODALITY,
    tags::PRESENTATION_INTENT_TYPE,
    tags::MANUFACTURER,
    tags::INSTITUTION_NAME,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::STATION_NAME,
    tags::STUDY_DESCRIPTION,
    tags::SERIES_DESCRIPTION,
    tags::PROCEDURE_CODE_SEQUENCE,
    tags::MANUFACTURER_MODEL_NAME,
    tags::REFERENCED_STUDY_SEQUENCE,
    tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::PATIENT_AGE,
    tags::OTHER_PATIENT_I_DS_SEQUENCE,
    tags::PATIENT_SIZE,
    tags::PATIENT_WEIGHT,
    tags::PATIENT_IDENTITY_REMOVED,
    tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE,
    tags::BODY_PART_EXAMINED,
    tags::SOFTWARE_VERSIONS,
    tags::IMAGER_PIXEL_SPACING,
    tags::VIEW_POSITION,
    tags::STUDY_ID,
    tags::SERIES_NUMBER,
    tags::INSTANCE_NUMBER,
    tags::LATERALITY,
    tags::IMAGE_LATERALITY,
    tags::SAMPLES_PER_PIXEL,
    tags::PHOTOMETRIC_INTERPRETATION,
    tags::NUMBER_OF_FRAMES,
    tags::ROWS,
    tags::COLUMNS,
    tags::PIXEL_SPACING,
    tags::BITS_ALLOCATED,
    tags::BITS_STORED,
    tags::HIGH_BIT,
    tags::PIXEL_REPRESENTATION,
    tags::PIXEL_PADDING_VALUE,
    tags::BURNED_IN_ANNOTATION,
    tags::WINDOW_CENTER,
    tags::WINDOW_WIDTH,
    tags::VOILUT_FUNCTION,
    tags::RESCALE_INTERCEPT,
    tags::RESCALE_SLOPE,
    tags::MODALITY_LUT_SEQUENCE,
    tags::VOILUT_SEQUENCE,
    tags::REQUEST_ATTRIBUTES_SEQUENCE,
    tags::PRESENTATION_LUT_SHAPE,
];

/// An element of a type that its attribute does not have.
fn of_another_type(tag: Tag, kind: usize) -> InMemElement {
    let mut item = InMemDicomObject::new_empty();
    item.put(number(tag, VR::LO, "nested"));
    match kind {
        0 => DataElement::new(tag, VR::SQ, DataSetSequence::from(vec![item])),
        1 => number(tag, VR::OB, PrimitiveValue::U8((0..255).collect())),
        2 => number(tag, VR::FD, PrimitiveValue::F64([f64::NAN, f64::INFINITY, -0.0].into_iter().collect())),
        _ => number(tag, VR::LO, "x".repeat(3_000)),
    }
}

/// CVE-2024-27628, 28130, 2026-10194: values of another type than expected.
#[test]
fn attributes_of_another_type_are_no_surprise() -> Result<()> {
    let mut all = Vec::new();
    for (index, tag) in READ.into_iter().enumerate() {
        // Two of the four for each, so that each is met by many.
        for kind in [index % 4, (index + 1) % 4] {
            let instance = altered(1300 + 4 * index as u64 + kind as u64, |object| {
                object.put(of_another_type(tag, kind));
            })?;
            all.push((format!("{tag} {kind}"), instance, Ends));
        }
    }
    check_ends(&all)
}

/// The same of what an instance has to have.
#[test]
fn identifiers_of_another_type_are_refused() -> Result<()> {
    let mut watched = Watched::receiving()?;
    let identifiers =
        [tags::SOP_CLASS_UID, tags::SOP_INSTANCE_UID, tags::STUDY_INSTANCE_UID, tags::SERIES_INSTANCE_UID];
    for (index, tag) in identifiers.into_iter().enumerate() {
        for kind in 0..4 {
            let instance = altered(1600 + 4 * index as u64 + kind as u64, |object| {
                object.put(of_another_type(tag, kind));
            })?;
            assert_eq!(watched.store(&instance)?, 0xC000, "{tag} {kind}");
        }
    }
    watched.check()
}
