//! Every file of the shared test set, where it is beside the checkout.

use std::{fs, path::PathBuf};

use dataset::{Header, Instance, Limits};

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
    // What the rows of the generated files say is due.
    for row in index.lines().filter(|row| row.starts_with("malformed/m_")) {
        let path = row.split('\t').next().unwrap_or_default();
        let is_refused = expected(path).is_some();
        if row.contains("expect: accept") || row.contains("expect: policy") || row.contains("expect: conflict") {
            assert!(!is_refused, "{path} is to be accepted");
        } else if row.contains("expect: reject") {
            assert!(is_refused != LEFT_TO_THE_PIXELS.contains(&path), "{path} is to be refused");
        } else {
            assert!(row.contains("expect: no NaN"), "{row}");
        }
    }
}

/// To be refused by whoever decodes: their data sets are well formed and can be kept.
const LEFT_TO_THE_PIXELS: &[&str] = &[
    "malformed/m_bits_stored_17_of_16.dcm",
    "malformed/m_bits_zero.dcm",
    "malformed/m_bot_offset_out_of_range.dcm",
    "malformed/m_frames_2e31.dcm",
    "malformed/m_j2k_siz_2e31.dcm",
    "malformed/m_jpeg_size_mismatch.dcm",
    "malformed/m_rle_bad_offsets.dcm",
    "malformed/m_rows_cols_65535.dcm",
];

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
    ("malformed/UN_sequence.dcm", "SOP Class UID"),
    ("malformed/bad_sequence.dcm", "SOP Instance UID"),
    ("malformed/emri_small_jpeg_2k_lossless_too_short.dcm", "inside a sequence"),
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
