//! What is fuzzed, as functions of the input: the fuzz targets run them on what libFuzzer makes up, a test runs them on
//! the corpus that is kept. A property that does not hold panics.

use std::io::Cursor;

use dataset::{
    CharacterSet, Error, Header, Instance, Limits, Tag, TransferSyntax, gate, parse_data_set, part10::Meta,
    rewrite_bytes,
};
use dicom_object::InMemDicomObject;

/// Small, so that what is beyond them is found soon.
fn limits() -> Limits {
    Limits {
        instance_bytes: 1 << 20,
        inflated_bytes: 1 << 20,
        depth: 16,
        elements: 20_000,
        filled_items: 5_000,
        header_value_bytes: 1 << 10,
        header_bytes: 16 << 10,
    }
}

/// The first byte chooses the transfer syntax, the rest is a data set: however it is read, the walk ends the same way,
/// within its limits, and what it lets pass does the parser no harm.
pub(crate) fn gate(input: &[u8]) {
    let Some((choice, data_set)) = input.split_first() else { return };
    let uid = match choice % 5 {
        0 => TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN,
        1 => TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN,
        2 => TransferSyntax::EXPLICIT_VR_BIG_ENDIAN,
        3 => TransferSyntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        _ => "1.2.840.10008.1.2.4.90",
    };
    let syntax = TransferSyntax::from_uid(uid).expect("a known syntax");
    let limits = limits();
    let length = (!syntax.deflated()).then_some(data_set.len() as u64);
    let read = gate::scan(data_set, length, syntax, &limits);
    let sought = gate::scan_seekable(&mut Cursor::new(data_set), syntax, &limits);
    match (&read, &sought) {
        (Ok(read), Ok(sought)) => {
            assert_eq!((read.bytes, read.elements, read.depth), (sought.bytes, sought.elements, sought.depth));
            assert_eq!(read.values, sought.values);
        }
        (Err(read), Err(sought)) => assert_eq!(read.to_string(), sought.to_string()),
        _ => panic!("read through: {read:?}, stepped over: {sought:?}"),
    }
    let Ok(scan) = read else { return };
    assert!(scan.depth <= limits.depth && scan.elements <= limits.elements);
    let kept: usize = scan.values.values().map(|value| value.bytes.len() + 64).sum();
    assert!(kept <= limits.header_bytes, "{kept} bytes are kept");
    let header = Header::from_scan(scan, syntax);
    values(&header);
    let meta = Meta {
        sop_class_uid: None,
        sop_instance_uid: None,
        source_ae_title: None,
        transfer_syntax_uid: uid.parse().expect("a UID"),
    };
    let file = [&meta.to_bytes(), data_set].concat();
    match Instance::from_bytes(&file, &limits) {
        Ok(instance) => {
            assert!(depth(instance.object()) <= limits.depth, "the object nests deeper than the walk");
            rewrite(&instance, &file, &limits);
        }
        // What passes the gate is read.
        Err(Error::TooLarge { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// What is rewritten is the same data set.
fn rewrite(instance: &Instance, file: &[u8], limits: &Limits) {
    for uid in [TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN, TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN] {
        let syntax = TransferSyntax::from_uid(uid).expect("a known syntax");
        let Ok(bytes) = rewrite_bytes(&mut Cursor::new(file), syntax, limits) else { continue };
        // Delimiters are new in it.
        let limits = Limits { elements: 2 * limits.elements, ..limits.clone() };
        let again = parse_data_set(&bytes, syntax, &limits).expect("what was written");
        assert!(depth(&again) <= limits.depth);
        let top =
            |object: &InMemDicomObject| object.iter().filter(|element| element.header().tag.element() != 0).count();
        // What implicit VR cannot say is left out.
        assert!(top(&again) <= top(instance.object()));
        assert!(!syntax.explicit_vr() || top(&again) == top(instance.object()));
    }
}

/// A file: preamble or none, file meta information, data set. What is read of its meta is written and read again as the
/// same.
pub(crate) fn part10(input: &[u8]) {
    let limits = limits();
    if let Ok((meta, data_set_at)) = Meta::parse(input) {
        assert!(data_set_at <= input.len());
        let again = meta.to_bytes();
        assert_eq!(Meta::parse(&again).expect("what was written"), (meta, again.len()));
    }
    let header = Header::read(&mut Cursor::new(input), &limits);
    let instance = Instance::from_bytes(input, &limits);
    if let Ok(instance) = instance {
        values(&header.expect("a header is less than an instance"));
        assert!(depth(instance.object()) <= limits.depth, "the object nests deeper than the walk");
    }
}

/// The declared character set up to the first line feed, then the value.
pub(crate) fn character_set(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let text = CharacterSet::declared(&input[..end]).decode(&input[end..]);
    // No encoding here makes more than three bytes of one.
    assert!(text.len() <= 3 * input.len());
}

/// Everything that is asked of a header, for every value that it kept.
fn values(header: &Header) {
    for group in [0x0008_u16, 0x0010, 0x0018, 0x0020, 0x0028] {
        for number in 0..0x0040 {
            let tag = Tag(group, number);
            let (text, texts) = (header.text(tag), header.texts(tag));
            assert_eq!(text.is_none(), texts.is_empty());
            assert!(header.raw(tag).is_some() || header.integer(tag).is_none());
        }
    }
    // Identifiers are no paths and no patient's data; everything else stays out of what is printed.
    assert!(format!("{header:?}").bytes().all(|byte| matches!(byte, b' '..=b'~')));
    assert_eq!(header.patient_name().to_string(), "‹phi›");
    let _ = (header.is_our_own(), header.has_pixel_data(), header.modality(), header.require_identity().is_ok());
}

/// How deep the parser's sequences are nested.
fn depth(object: &InMemDicomObject) -> usize {
    let items = object.iter().flat_map(|element| element.items().unwrap_or_default());
    items.map(|item| 1 + depth(item)).max().unwrap_or(0)
}
