//! Many sources: which bytes come in, which go out, and what is said of the difference.

use dataset::{Instance, Limits, Uid, tags};
use dicom_core::{Tag, VR};

use crate::{
    Error, ModelText, Source, Weight,
    elements::{DataSet, file},
    fixture::{evidence, provenance},
    must_hold, parse, require_readable,
    sr::{Options, copy_notes, text_report},
    text, validate,
};

const NAME: (Tag, VR) = (tags::PATIENT_NAME, VR::PN);
const ID: (Tag, VR) = (tags::PATIENT_ID, VR::LO);
const ISSUER: (Tag, VR) = (tags::ISSUER_OF_PATIENT_ID, VR::LO);
const ACCESSION: (Tag, VR) = (tags::ACCESSION_NUMBER, VR::SH);
const DESCRIPTION: (Tag, VR) = (tags::STUDY_DESCRIPTION, VR::LO);
const STUDY_ID: (Tag, VR) = (tags::STUDY_ID, VR::SH);
const REFERRER: (Tag, VR) = (tags::REFERRING_PHYSICIAN_NAME, VR::PN);
const JAPANESE: &[u8] = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B";
const KOREAN: &[u8] = b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf";

fn image(declared: &[u8], (tag, vr): (Tag, VR), value: &[u8]) -> Instance {
    let mut image = DataSet::default();
    for (tag, vr, value) in [
        (tags::SOP_CLASS_UID, VR::UI, crate::fixture::CR_CLASS),
        (tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4.5"),
        (tags::STUDY_INSTANCE_UID, VR::UI, "1.2.3"),
        (tags::SERIES_INSTANCE_UID, VR::UI, "1.2.3.4"),
        (tags::MODALITY, VR::CS, "CR"),
    ] {
        image.put_bytes(tag, vr, value);
    }
    if !declared.is_empty() {
        image.put_bytes(tags::SPECIFIC_CHARACTER_SET, VR::CS, declared);
    }
    image.put_bytes(tag, vr, value);
    Instance::from_bytes(&file(&image), &Limits::default()).unwrap()
}

fn report(image: &Instance, text: &str) -> Result<DataSet, Error> {
    let source = Source { representative: image, evidence: vec![evidence()], predecessors: Vec::new() };
    let document = text_report(
        &parse(&ModelText { text, tokens: Vec::new(), grid: None }),
        &source,
        &provenance(),
        &Options::default(),
    )?;
    let violations = validate(&document.file);
    assert!(!must_hold(&violations), "{violations:?}");
    Ok(text::read(&document.file).unwrap())
}

fn trimmed(value: Option<&[u8]>) -> Option<&[u8]> {
    value.map(crate::values::trimmed)
}

#[test]
fn what_comes_in_goes_out_or_is_said() {
    let check = |declared: &[u8], at: (Tag, VR), given: &[u8], expected: Option<&[u8]>, note: &str| {
        let image = image(declared, at, given);
        let report = report(&image, "Lungs are clear.").unwrap();
        let shown = String::from_utf8_lossy(given).escape_debug().to_string();
        assert_eq!(trimmed(report.bytes(at.0)), expected, "{shown}");
        let set = report.bytes(tags::SPECIFIC_CHARACTER_SET).map(crate::values::trimmed).unwrap_or_default();
        assert_eq!(set, declared, "{shown}");
        let notes = copy_notes(&image).join("; ");
        assert!(if note.is_empty() { notes.is_empty() } else { notes.contains(note) }, "{shown}: {notes}");
    };
    let same = |declared: &[u8], at, given: &[u8]| check(declared, at, given, Some(given), "");
    // Names and numbers as they come, in every way to write characters.
    same(b"", NAME, b"Doe^Jane");
    same(b"ISO_IR 100", NAME, b"M\xfcller^J\xf6rg");
    same(b"ISO_IR 144", NAME, b"\xbb\xee\xda^\xbb");
    same(b"ISO_IR 166", NAME, b"\xca\xc1^\xaa\xd2");
    same(b"ISO_IR 192", NAME, "王^小东".as_bytes());
    same(b"GB18030", NAME, b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab");
    same(b"GBK", NAME, b"Wang^XiaoDong=\xcd\xf5^\x90\x45");
    same(b"\\ISO 2022 IR 87", NAME, JAPANESE);
    same(b"ISO 2022 IR 13\\ISO 2022 IR 87", NAME, b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J");
    same(b"ISO 2022 IR 6\\ISO 2022 IR 159", NAME, b"A^B=\x1b$(D\x22\x6f\x1b(B");
    same(b"\\ISO 2022 IR 149", NAME, KOREAN);
    same(b"\\ISO 2022 IR 58", NAME, b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=");
    same(b"", NAME, b"M\xfcller^undeclared");
    for utf8 in ["Müller", "MÜLLER", "José", "É", "山田"] {
        same(b"", NAME, utf8.as_bytes());
        same(b"", ID, utf8.as_bytes());
    }
    same(b"", ID, b"0007");
    same(b"", ID, b"a very long patient ID of more than sixty-four characters, as one sender has it");
    same(b"", ISSUER, b"HOSPITAL^1.2^ISO");
    same(b"", ACCESSION, b"12345678901234567890");
    same(b"", ACCESSION, b"A\\B");
    // Control characters go, and nothing else of the value.
    let dropped = |declared: &[u8], at, given: &[u8], expected: &[u8]| {
        check(declared, at, given, Some(expected), if at == NAME { "PatientName: " } else { "left out" });
    };
    dropped(b"", NAME, b"DOE\x1b]0;own\x07^JOHN", b"DOE]0;own^JOHN");
    dropped(b"", NAME, b"DOE\tX^JOHN", b"DOEX^JOHN");
    dropped(b"", ACCESSION, b"A\x1b[2J\x07", b"A[2J");
    dropped(b"", DESCRIPTION, b"A\x1b[2J\x1b]0;own\x07B", b"A[2J]0;ownB");
    dropped(b"", DESCRIPTION, b"Chest\r\n\x7fPA", b"ChestPA");
    dropped(b"ISO_IR 192", ID, b"7\xc2\x9b2J7", b"72J7");
    dropped(b"GB18030", NAME, b"\xcd\xf5\x1b[2J^2", b"\xcd\xf5[2J^2");
    dropped(
        b"\\ISO 2022 IR 87",
        NAME,
        b"\x1b$B;3ED\x1b(B\x1b]0;own\x07^\x1b(B\x1b[2J\x1b)I2J",
        b"\x1b$B;3ED\x1b(B]0;own^\x1b(B[2J\x1b)I2J",
    );
    dropped(b"\\ISO 2022 IR 149", NAME, b"A=\x1b$)C\xfb\xf3\x1b[2J\x07", b"A=\x1b$)C\xfb\xf3[2J");
    // Lengths are of characters: 64 of them are more bytes in most sets.
    let long = "王".repeat(64);
    same(b"ISO_IR 192", DESCRIPTION, long.as_bytes());
    same(b"ISO_IR 192", REFERRER, format!("{long}={long}={long}").as_bytes());
    // What is invalid and no identity is empty where it has to be there, and away elsewhere.
    check(
        b"ISO_IR 192",
        DESCRIPTION,
        "王".repeat(65).as_bytes(),
        None,
        "StudyDescription: not taken over: more than 64",
    );
    check(b"", DESCRIPTION, b"A\\B", None, "several values");
    check(b"ISO_IR 192", DESCRIPTION, b"Caf\xe9", None, "bytes without a meaning");
    check(b"", STUDY_ID, b"12345678901234567", Some(b""), "StudyID: not taken over: more than 16");
    check(b"", REFERRER, b"A=B=C=D", Some(b""), "ReferringPhysicianName: not taken over");
    check(b"", (tags::PATIENT_SEX, VR::CS), b"male", Some(b""), "PatientSex: not taken over: no valid CS");
    check(b"", (tags::PATIENT_BIRTH_DATE, VR::DA), b"24.04.1997", Some(b""), "PatientBirthDate");
    check(b"", (tags::PATIENT_BIRTH_DATE, VR::DA), b"1997.04.24", Some(b"19970424"), "");
    check(b"", (tags::PATIENT_AGE, VR::AS), b"42", None, "PatientAge: not taken over: no valid AS");
    check(b"", (tags::STUDY_TIME, VR::TM), b"noon\x1b[2J", Some(b""), "StudyTime");
}

#[test]
fn an_identity_that_nobody_can_read_holds_and_nothing_else_does() {
    let check = |declared: &[u8], at, value: &[u8], holds: bool| {
        let image = image(declared, at, value);
        let shown = format!("{} {}", declared.escape_ascii(), value.escape_ascii());
        assert_eq!(require_readable(&image).is_err(), holds, "{shown}");
        assert_eq!(matches!(report(&image, "Lungs are clear."), Err(Error::Undecodable { .. })), holds, "{shown}");
    };
    check(b"ISO_IR 192", NAME, b"M\xfcller", true);
    check(b"ISO_IR 192", ID, b"M\xfc", true);
    check(b"ISO_IR 999", NAME, b"M\xfcller", true);
    check(b"ISO_IR 999", NAME, b"Muller", false);
    check(b"ISO_IR 13", NAME, b"\x8e\x52\x93\x63", true);
    check(b"GB18030", NAME, b"\xcd", true);
    check(b"\\ISO 2022 IR 87", NAME, b"A=\x1b$B;", true);
    check(b"ISO_IR 127", NAME, b"\xa1", true);
    // From 128 to 159 are letters of sets that their senders do not name: what is left without them is another's.
    for declared in [&b""[..], b"ISO_IR 100", b"ISO_IR 192", b"ISO_IR 144", b"\\ISO 2022 IR 87"] {
        for at in [NAME, ID, ISSUER, ACCESSION] {
            check(declared, at, b"\x8aIMEK^J", true);
            check(declared, at, b"7\x9b", true);
        }
        check(declared, DESCRIPTION, b"\x8aIMEK^J", false);
    }
    check(b"GB18030", NAME, b"7\x9b", true);
    check(b"ISO_IR 100", NAME, "Ärger".as_bytes(), true);
    check(b"", NAME, "Ärger\u{9b}2J".as_bytes(), true);
    check(b"", NAME, b"\x8e\x52\x93\x63^\x91\xbe\x98\x59", true);
    check(b"", NAME, b"M\xfcller", false);
    check(b"ISO_IR 192", DESCRIPTION, b"M\xfcller", false);
    check(b"ISO_IR 192", REFERRER, b"M\xfcller", false);
    check(b"", DESCRIPTION, b"\x1b[2J", false);
}

#[test]
fn beside_text_of_ours_that_is_not_ascii_a_name_is_the_same_letters_or_the_study_is_held() {
    let check = |declared: &[u8], name: &[u8], expected: Option<&str>| {
        let image = image(declared, NAME, name);
        let written = report(&image, "Effusion of 3 cm² is seen near the Ångström line.").ok();
        let name = written.as_ref().and_then(|report| trimmed(report.bytes(tags::PATIENT_NAME)));
        assert_eq!(name, expected.map(str::as_bytes), "{}", declared.escape_ascii());
    };
    check(b"ISO_IR 100", b"M\xfcller", Some("Müller"));
    check(b"\\ISO 2022 IR 87", JAPANESE, Some("Yamada^Tarou=山田^太郎=やまだ^たろう"));
    check(b"\\ISO 2022 IR 149", KOREAN, Some("Hong^Gildong=洪^吉洞=홍^길동"));
    check(b"", b"M\xfcller", None);
    check(b"", "MÜLLER".as_bytes(), None);
}

#[test]
fn the_uids_of_a_source_are_not_ours_to_judge() {
    let study: Uid = "1.2.840.00123.007.1".parse().unwrap();
    let image = image(b"", (tags::STUDY_INSTANCE_UID, VR::UI), study.as_str().as_bytes());
    let written = report(&image, "Lungs are clear.").unwrap();
    assert_eq!(written.plain(tags::STUDY_INSTANCE_UID), study.as_str());
    let ours = |tag| {
        let mut forged = written.clone();
        forged.put_bytes(tag, VR::UI, "1.2.03");
        validate(&file(&forged)).into_iter().any(|it| it.rule == "value" && it.weight == Weight::Breach)
    };
    assert!(ours(tags::SOP_INSTANCE_UID) && ours(tags::SERIES_INSTANCE_UID));
    assert!(!ours(tags::STUDY_INSTANCE_UID));
}

#[test]
fn a_control_character_in_an_object_is_a_breach_wherever_it_stands() {
    let image = image(b"", NAME, b"Doe^Jane");
    let written = report(&image, "Lungs are clear.").unwrap();
    for (tag, vr) in [NAME, ID, ACCESSION, DESCRIPTION, (tags::PATIENT_SEX, VR::CS), (tags::STUDY_TIME, VR::TM)] {
        let mut forged = written.clone();
        forged.put_bytes(tag, vr, "A\u{1b}[2J");
        let found = validate(&file(&forged));
        assert!(found.iter().any(|it| it.rule == "control" && it.weight == Weight::Breach), "{tag}: {found:?}");
    }
}
