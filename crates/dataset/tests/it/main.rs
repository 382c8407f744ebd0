//! The gate, the header and the character sets over the DICOM test set, where it is there.

use std::{
    fs,
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::PathBuf,
};

use dataset::{Error, Header, Instance, Limits, TransferSyntax, Uid, gate, part10::Meta, tags};

/// A file of the test set, or nothing with a line that says so.
fn shared(path: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/dicom");
    if root.is_dir() {
        Some(root.join(path))
    } else {
        println!("skipped: the DICOM test set is not beside this checkout");
        None
    }
}

#[test]
fn what_is_well_formed_passes_and_what_is_not_is_refused_with_its_reason() {
    let Some(root) = shared("") else { return };
    let index = fs::read_to_string(root.join("index.tsv")).unwrap();
    let mut outcomes = Vec::new();
    for path in index.lines().skip(1).filter_map(|row| row.split('\t').next()) {
        let opened = Instance::open(&root.join(path), &Limits::default());
        let outcome = match opened.and_then(|instance| instance.header.require_identity()) {
            Ok(()) => "passes".to_owned(),
            Err(error) => error.to_string(),
        };
        outcomes.push((path.to_owned(), outcome));
    }
    let refused: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome != "passes").collect();
    let expected = |path: &str| REFUSED.iter().find(|(known, _)| *known == path).map(|(_, reason)| *reason);
    for (path, outcome) in &refused {
        let reason = expected(path).unwrap_or_else(|| panic!("{path} is refused: {outcome}"));
        assert!(outcome.contains(reason), "{path}: {outcome:?} does not say {reason:?}");
    }
    assert_eq!(refused.len(), REFUSED.len(), "a file of the list is not refused any more: {refused:?}");
}

/// Every file of the test set that is refused, with what the refusal says.
const REFUSED: &[(&str, &str)] = &[
    ("charset/chrSQEncoding.dcm", "SOP Class UID"),
    ("charset/empty_charset_LEI.dcm", "SOP Class UID"),
    ("codec/HTJ2KLossless_08_RGB.dcm", "Study Instance UID"),
    ("codec/JLSL_16_15_1_1F.dcm", "Study Instance UID"),
    ("codec/ct_jpeg_p10_12_retired.dcm", "transfer syntax 1.2.840.10008.1.2.4.55 is retired"),
    ("encaps/generated_encapsulated_defined_bot_2_to_1.dcm", "SOP Class UID"),
    ("fileset/DICOMDIR", "SOP Class UID"),
    ("malformed/MR_truncated.dcm", "declares 8192 bytes, 8130 are left"),
    ("malformed/UN_sequence.dcm", "UN of undefined length"),
    ("malformed/bad_sequence.dcm", "SOP Instance UID"),
    ("malformed/emri_small_jpeg_2k_lossless_too_short.dcm", "inside a sequence"),
    ("malformed/m_bot_offset_out_of_range.dcm", "an item outside a sequence"),
    ("malformed/m_deep_nesting_5000.dcm", "nested deeper than 64"),
    ("malformed/m_deflate_bomb_300mb.dcm", "inflates to more than 268435456 bytes"),
    ("malformed/m_length_4gb.dcm", "declares 4294967280 bytes, 8192 are left"),
    ("malformed/m_missing_uids.dcm", "SOP Instance UID"),
    ("malformed/m_truncated_header.dcm", "ends inside an element"),
    ("malformed/m_truncated_mid_element.dcm", "declares 8192 bytes, 3652 are left"),
    ("malformed/m_uid_path_traversal.dcm", "SOP Instance UID"),
    ("malformed/m_undefined_length_text.dcm", "an undefined length on a value that has none"),
    ("malformed/meta_missing_tsyntax.dcm", "Transfer Syntax UID (0002,0010) is missing"),
    ("malformed/no_meta.dcm", "not a DICOM Part 10 file"),
    ("mr/decimal_rescale.dcm", "SOP Class UID"),
];

#[test]
fn names_decode_as_pydicom_decodes_them() {
    let Some(root) = shared("") else { return };
    let index = fs::read_to_string(root.join("index.tsv")).unwrap();
    let mut compared = 0;
    for path in index.lines().skip(1).filter_map(|row| row.split('\t').next()) {
        let Ok(reference) = fs::read_to_string(root.join("refs").join(format!("{path}.json"))) else { continue };
        let Ok(header) = Header::open(&root.join(path), &Limits::default()) else { continue };
        let Some(expected) = json_string(&reference, "patient_name_utf8") else { continue };
        // pydicom drops empty component groups at the end.
        assert_eq!(header.patient_name().expose().trim_end_matches('='), expected, "{path}");
        compared += 1;
    }
    assert!(compared > 50, "only {compared} names were compared");
}

/// The string under a key, unescaped; enough for the references, which hold no nested key of that name.
fn json_string(json: &str, key: &str) -> Option<String> {
    let after = &json[json.find(&format!("\"{key}\""))? + key.len() + 2..];
    let value = after.trim_start_matches([':', ' ']);
    serde_json::Deserializer::from_str(value).into_iter::<String>().next()?.ok()
}

/// Group, element number, VR, declared length, and the bytes that are really there.
type Element<'a> = (u16, u16, &'a [u8; 2], u32, &'a [u8]);

fn explicit(elements: &[Element<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (group, number, vr, length, value) in elements {
        bytes.extend_from_slice(&group.to_le_bytes());
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(*vr);
        if matches!(*vr, b"SQ" | b"OB" | b"OW" | b"UN") {
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&length.to_le_bytes());
        } else {
            bytes.extend_from_slice(&u16::try_from(*length).expect("a short VR").to_le_bytes());
        }
        bytes.extend_from_slice(value);
    }
    bytes
}

fn meta_of(transfer_syntax: &str) -> Meta {
    Meta {
        sop_class_uid: None,
        sop_instance_uid: None,
        transfer_syntax_uid: transfer_syntax.parse::<Uid>().expect("a UID"),
        source_ae_title: None,
    }
}

fn scan(bytes: &[u8], limits: &Limits) -> Result<gate::Scan, gate::GateError> {
    let syntax = TransferSyntax::from_uid(TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN).expect("a known syntax");
    gate::scan(bytes, Some(bytes.len() as u64), syntax, limits)
}

#[test]
fn hostile_lengths_and_depths_are_refused_before_they_cost_anything() {
    let limits = Limits::default();
    let check = |bytes: &[u8], reason: &str| {
        let refusal = scan(bytes, &limits).expect_err(reason).to_string();
        assert!(refusal.contains(reason), "{refusal:?} does not say {reason:?}");
    };
    check(&explicit(&[(0x7fe0, 0x0010, b"OW", 0xffff_fffe, b"few")]), "declares 4294967294 bytes, 3 are left");
    check(&explicit(&[(0x0010, 0x0010, b"PN", 40, b"Doe")]), "declares 40 bytes, 3 are left");
    check(&explicit(&[(0x0010, 0x0010, b"QQ", 0, b"")]), "unknown value representation");
    check(&explicit(&[(0x0040, 0xa730, b"SQ", u32::MAX, b"")]), "inside a sequence");
    check(&[0x10, 0, 0x10], "inside an element");
    let nested: Vec<u8> = (0..5_000)
        .flat_map(|_| {
            let mut level = explicit(&[(0x0040, 0xa730, b"SQ", u32::MAX, b"")]);
            level.extend_from_slice(&[0xfe, 0xff, 0x00, 0xe0, 0xff, 0xff, 0xff, 0xff]);
            level
        })
        .collect();
    check(&nested, "nested deeper than 64");
    let many = Limits { elements: 3, ..Limits::default() };
    let four: Vec<_> = (0..4).map(|number| (0x0009u16, number, b"LO", 0u32, &b""[..])).collect();
    assert!(matches!(scan(&explicit(&four), &many), Err(gate::GateError::TooMany { limit: 3 })));
}

/// A file that counts what is read of it.
struct Counted {
    file: Cursor<Vec<u8>>,
    read: usize,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read += read;
        Ok(read)
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn a_header_is_read_without_reading_pixels_and_says_what_a_whole_reading_says() {
    let pixels = vec![7; 1 << 20];
    let elements = [
        (0x0008, 0x0018, b"UI", 4, b"1.2\0".as_slice()),
        (0x0009, 0x1010, b"OB", 1 << 20, &pixels),
        (0x0010, 0x0010, b"PN", 4, b"Doe "),
        (0x7fe0, 0x0010, b"OW", 1 << 20, &pixels),
        (0xfffc, 0xfffc, b"OB", 2, b"\0\0"),
    ];
    let data_set = explicit(&elements);
    let meta = meta_of(TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN).to_bytes();
    for (cut, private) in [(0, 0), (1, 0), (14, 5_000), ((1 << 20) + 30, 0)] {
        let mut file = meta.clone();
        if private > 0 {
            file.extend_from_slice(&[2, 0, 2, 1, b'O', b'B', 0, 0]);
            file.extend_from_slice(&u32::to_le_bytes(private));
            file.resize(file.len() + private as usize, 0);
        }
        let data_set = &data_set[..data_set.len() - cut];
        file.extend_from_slice(data_set);
        let mut file = Counted { file: Cursor::new(file), read: 0 };
        let header = Header::read(&mut file, &Limits::default()).map_err(|error| error.to_string());
        let expected = scan(data_set, &Limits::default()).map_err(|error| format!("data set refused: {error}"));
        assert_eq!(
            header.as_ref().map(|header| header.raw(tags::PATIENT_NAME)),
            expected.as_ref().map(|scan| scan.values.get(&tags::PATIENT_NAME).map(|value| value.bytes.as_slice())),
            "{cut} bytes short",
        );
        assert_eq!(header.is_ok(), cut == 0 || cut == 14, "{cut} bytes short");
        assert!(file.read < 128 << 10, "{} bytes were read", file.read);
    }
}

#[test]
fn a_deflated_set_is_cut_at_the_inflation_limit() {
    use std::io::Write;
    let zeros = explicit(&[(0x7fe0, 0x0010, b"OW", 8 << 20, &vec![0; 8 << 20])]);
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&zeros).unwrap();
    let deflated = encoder.finish().unwrap();
    let syntax = TransferSyntax::from_uid(TransferSyntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
    let scan =
        |inflated_bytes| gate::scan(deflated.as_slice(), None, syntax, &Limits { inflated_bytes, ..Limits::default() });
    assert!(matches!(scan(1 << 20), Err(gate::GateError::Inflation { .. })));
    assert_eq!(scan(16 << 20).unwrap().bytes, zeros.len() as u64);
}

#[test]
fn an_instance_without_identity_is_refused_by_name() {
    let mut file = meta_of(TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN).to_bytes();
    file.extend(explicit(&[(0x0008, 0x0016, b"UI", 4, b"1.2\0"), (0x0008, 0x0018, b"UI", 4, b"1.3\0")]));
    let instance = Instance::from_bytes(&file, &Limits::default()).unwrap();
    let refusal = instance.header.require_identity().unwrap_err();
    assert!(matches!(refusal, Error::MissingUid { tag: tags::STUDY_INSTANCE_UID, .. }), "{refusal}");
}
