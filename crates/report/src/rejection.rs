//! A rejection note: a Key Object Selection (PS3.3 A.35.4, TID 2010) titled "Rejected for Patient Safety Reasons" (CID
//! 7010), by which documents of ours are called back (IHE RAD TF, Imaging Object Change Management, RAD-66).

use dataset::{Instance, Tag, tags};
use dicom_object::InMemDicomObject;

use crate::{
    Error,
    codes::{KEY_OBJECT_DESCRIPTION, REJECTED_FOR_PATIENT_SAFETY},
    content::{self, Item},
    copy::{self, Policy},
    document::{Document, EvidenceItem, Provenance, Source},
    header,
    references::{Place, hierarchy},
    sr::{key_object_document, language_and_observer},
    uids::Kind,
};

/// The note that takes back the documents that `source` has as evidence. Its representative is one of them: the note has to
/// be filed with the patient and the study that they were filed with. `reason` is a person's.
pub fn rejection_note(source: &Source<'_>, reason: &str, provenance: &Provenance) -> Result<Document, Error> {
    let mut description = format!("AI draft withdrawn: {reason}");
    // A patient's name in bytes that nobody declared is repeated, and never converted for the sake of a person's words.
    if copy::require_identity(source.representative, Policy::for_text([description.as_str()])).is_err() {
        description = in_ascii(&description);
    }
    let mut items = language_and_observer(provenance);
    // A key object document has no modifiers of codes (PS3.3 table A.35.4-2): the language stands without its country.
    items.iter_mut().for_each(|item| item.children.clear());
    items.push(Item::contains(KEY_OBJECT_DESCRIPTION, content::text(&description)));
    items.extend(source.evidence.iter().map(entry));
    let mut own = Vec::new();
    items.iter().for_each(|item| item.own_text(&mut own));
    let mut object = header::begin(Kind::RejectionNote, source, provenance, &own)?;
    key_object_document(&mut object.data_set, &object.copier, provenance);
    // What is rejected and nothing besides: some archives take this list for what is to be rejected.
    let study = &source.representative.header.study_instance_uid;
    let rejected = hierarchy(study, source.evidence.iter().map(Place::from));
    object.data_set.put_items(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, vec![rejected]);
    content::root(&mut object.data_set, REJECTED_FOR_PATIENT_SAFETY, "2010", &items, &object.copier);
    object.finish()
}

/// The same in ASCII: German letters as they are written without umlauts, any other by its code point.
fn in_ascii(text: &str) -> String {
    let letter = |of: char| match of {
        'ä' => "ae".to_owned(),
        'ö' => "oe".to_owned(),
        'ü' => "ue".to_owned(),
        'Ä' => "Ae".to_owned(),
        'Ö' => "Oe".to_owned(),
        'Ü' => "Ue".to_owned(),
        'ß' => "ss".to_owned(),
        of if of.is_ascii() => of.to_string(),
        of => format!("<U+{:04X}>", u32::from(of)),
    };
    text.chars().map(letter).collect()
}

fn entry(item: &EvidenceItem) -> Item {
    let (class, instance) = (&item.sop_class_uid, &item.sop_instance_uid);
    if class.as_str() == Kind::HeatMap.sop_class_uid() {
        Item::image_entry(class, instance, None)
    } else {
        Item::composite_entry(class, instance)
    }
}

/// What a rejection note of somebody's says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its title, in the words of CID 7010.
    pub title: &'static str,
    /// The instances that it names, by SOP Instance UID: those of its own study; where its list has none of it, whatever its
    /// content names, be it of this study or not.
    pub instances: Vec<String>,
}

/// The titles (CID 7010) of notes after which an instance is not to be used. "Quality Issue" (113010) rejects nothing, and
/// "Data Retention Policy Expired" (113039) says nothing against what was seen on an image.
const REJECTING: &[(&str, &str)] = &[
    ("113001", "Rejected for Quality Reasons"),
    ("113037", "Rejected for Patient Safety Reasons"),
    ("113038", "Incorrect Modality Worklist Entry"),
];

/// Content items within content items that are looked into: a note has one level of them.
const DEPTH: usize = 8;

/// Reads a Key Object Selection; nothing when its title rejects nothing.
pub fn read(note: &Instance) -> Option<Rejection> {
    let object = note.object();
    let code = items(object, tags::CONCEPT_NAME_CODE_SEQUENCE).first()?;
    let is_dicoms = value(code, tags::CODING_SCHEME_DESIGNATOR).as_deref() == Some("DCM");
    let of_note = value(code, tags::CODE_VALUE).filter(|_| is_dicoms)?;
    let (_, title) = REJECTING.iter().find(|(code, _)| *code == of_note)?;
    Some(Rejection { title, instances: named(object, note.header.study_instance_uid.as_str()) })
}

/// Whether it cannot be told what a Key Object Selection rejects: it names instances, of whichever study, and has no title; or
/// its title rejects, and it names none.
pub fn is_unclear(note: &Instance) -> bool {
    let object = note.object();
    let code = items(object, tags::CONCEPT_NAME_CODE_SEQUENCE).first();
    let codes = [tags::CODE_VALUE, tags::LONG_CODE_VALUE, tags::URN_CODE_VALUE];
    let has_title = code.is_some_and(|code| codes.iter().any(|tag| value(code, *tag).is_some_and(|it| !it.is_empty())));
    match read(note) {
        Some(rejection) => rejection.instances.is_empty() && !names_any(object),
        None => !has_title && names_any(object),
    }
}

fn names_any(note: &InMemDicomObject) -> bool {
    let evidence = [tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, tags::PERTINENT_OTHER_EVIDENCE_SEQUENCE];
    let mut named = Vec::new();
    for study in evidence.iter().flat_map(|tag| items(note, *tag)) {
        items(study, tags::REFERENCED_SERIES_SEQUENCE).iter().for_each(|series| referenced(series, &mut named));
    }
    in_content(note, &mut named, DEPTH);
    !named.is_empty()
}

/// The instances of its own study: those of its evidence, and where that names none of it, however damaged it is, those
/// of its content.
fn named(note: &InMemDicomObject, study: &str) -> Vec<String> {
    let mut named = Vec::new();
    let evidence = [tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, tags::PERTINENT_OTHER_EVIDENCE_SEQUENCE];
    for of in evidence.iter().flat_map(|tag| items(note, *tag)) {
        if value(of, tags::STUDY_INSTANCE_UID).as_deref() == Some(study) {
            let series = items(of, tags::REFERENCED_SERIES_SEQUENCE).iter();
            series.for_each(|series| referenced(series, &mut named));
        }
    }
    if named.is_empty() {
        in_content(note, &mut named, DEPTH);
    }
    named
}

fn in_content(item: &InMemDicomObject, named: &mut Vec<String>, depth: usize) {
    for child in items(item, tags::CONTENT_SEQUENCE).iter().filter(|_| depth > 0) {
        referenced(child, named);
        in_content(child, named, depth - 1);
    }
}

fn referenced(by: &InMemDicomObject, named: &mut Vec<String>) {
    let references = items(by, tags::REFERENCED_SOP_SEQUENCE).iter();
    named.extend(references.filter_map(|it| value(it, tags::REFERENCED_SOP_INSTANCE_UID)));
}

fn items(of: &InMemDicomObject, tag: Tag) -> &[InMemDicomObject] {
    of.get(tag).and_then(|element| element.items()).unwrap_or_default()
}

fn value(of: &InMemDicomObject, tag: Tag) -> Option<String> {
    let value = of.get(tag)?.to_str().ok()?;
    Some(value.trim_matches(['\0', ' ']).to_owned())
}

#[cfg(test)]
mod tests {
    use dataset::Limits;
    use dicom_core::VR;

    use super::*;
    use crate::{
        elements::{DataSet, file},
        fixture, text,
    };

    /// A note by somebody else, made of one of ours.
    fn note_of_others(change: impl FnOnce(&mut DataSet)) -> Option<Rejection> {
        let mut note = fixture::data_set(Kind::RejectionNote);
        note.put_bytes(tags::MANUFACTURER, VR::LO, "Acme");
        change(&mut note);
        read(&Instance::from_bytes(&file(&note), &Limits::default()).unwrap())
    }

    fn titled(code: &str, scheme: &str) -> impl FnOnce(&mut DataSet) {
        let mut item = DataSet::default();
        item.put_bytes(tags::CODE_VALUE, VR::SH, code);
        item.put_bytes(tags::CODING_SCHEME_DESIGNATOR, VR::SH, scheme);
        move |note| note.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![item])
    }

    fn without(item: &mut DataSet, tag: Tag) {
        item.elements.retain(|it| it.tag != tag);
    }

    #[test]
    fn a_note_is_read_by_its_title_and_what_it_names_counts_however_its_list_is_damaged() {
        for (code, scheme, rejects) in [
            ("113001", "DCM", true),
            ("113037", "DCM", true),
            ("113038", "DCM", true),
            ("113039", "DCM", false),
            ("113000", "DCM", false),
            ("113010", "DCM", false),
            ("113001", "99ACME", false),
        ] {
            let read = note_of_others(titled(code, scheme));
            assert_eq!(read.map(|it| it.instances.len()), rejects.then_some(2), "{code} {scheme}");
        }
        let evidence = tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE;
        let list = |change: fn(&mut DataSet)| {
            note_of_others(|note| {
                let mut study = note.items(evidence)[0].clone();
                change(&mut study);
                note.put_items(evidence, vec![study]);
            })
        };
        let counts = |damaged: Option<Rejection>, how: &str| {
            assert_eq!(damaged.unwrap().instances.len(), 2, "{how}: the content says the same");
        };
        counts(note_of_others(|note| note.elements.retain(|it| it.tag != evidence)), "no list");
        counts(note_of_others(|note| note.put_items(evidence, Vec::new())), "an empty list");
        counts(list(|study| without(study, tags::REFERENCED_SERIES_SEQUENCE)), "no series");
        counts(
            list(|study| study.put_items(tags::REFERENCED_SERIES_SEQUENCE, vec![DataSet::default()])),
            "no instances",
        );
        counts(list(|study| without(study, tags::STUDY_INSTANCE_UID)), "no study");
        counts(list(|study| study.put_bytes(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.99")), "another study");
        let nothing = note_of_others(|note| {
            note.elements.retain(|it| it.tag != evidence && it.tag != tags::CONTENT_SEQUENCE);
        });
        assert_eq!(nothing.unwrap().instances, Vec::<String>::new());
    }

    #[test]
    fn a_name_in_no_declared_character_set_takes_a_reason_in_any_words() {
        let report = fixture::data_set(Kind::BasicTextReport);
        let check = |name: &[u8], reason: &str, expected: &str| {
            let mut report = report.clone();
            without(&mut report, tags::SPECIFIC_CHARACTER_SET);
            report.put_bytes(tags::PATIENT_NAME, VR::PN, name);
            let of = Instance::from_bytes(&file(&report), &Limits::default()).unwrap();
            let source = Source { representative: &of, evidence: vec![fixture::evidence()], predecessors: Vec::new() };
            let note = rejection_note(&source, reason, &fixture::provenance()).unwrap();
            assert!(!crate::must_hold(&crate::validate(&note.file)), "{reason}");
            let data_set = text::read(&note.file).unwrap();
            let written = data_set.bytes(tags::PATIENT_NAME).unwrap();
            assert_eq!(written.trim_ascii_end(), name, "{reason}");
            let said: Vec<&str> =
                data_set.items(tags::CONTENT_SEQUENCE).iter().map(|item| item.plain(tags::TEXT_VALUE)).collect();
            assert!(said.contains(&format!("AI draft withdrawn: {expected}").as_str()), "{said:?}");
        };
        check(b"M\xfcLLER^J", "f\u{fc}r B\u{142}a\u{17c}ej", "fuer B<U+0142>a<U+017C>ej");
        check(b"M\xfcLLER^J", "another patient", "another patient");
        check(b"MILLER^J", "f\u{fc}r", "f\u{fc}r");
    }

    #[test]
    fn a_note_that_does_not_say_what_it_rejects_is_unclear() {
        let check = |change: &dyn Fn(&mut DataSet), expected: bool| {
            let mut note = fixture::data_set(Kind::RejectionNote);
            change(&mut note);
            assert_eq!(is_unclear(&Instance::from_bytes(&file(&note), &Limits::default()).unwrap()), expected);
        };
        let drop = |note: &mut DataSet, tags: &[Tag]| note.elements.retain(|it| !tags.contains(&it.tag));
        let evidence = tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE;
        check(&|_| {}, false);
        check(&|note| drop(note, &[evidence]), false);
        check(&|note| drop(note, &[evidence, tags::CONTENT_SEQUENCE]), true);
        check(&|note| drop(note, &[tags::CONCEPT_NAME_CODE_SEQUENCE]), true);
        check(&|note| titled("", "DCM")(note), true);
        let all = [tags::CONCEPT_NAME_CODE_SEQUENCE, evidence, tags::CONTENT_SEQUENCE];
        check(&|note| drop(note, &all), false);
        // What rejects nothing need not name anything, and another study's images are named all the same.
        check(&|note| (titled("113000", "DCM")(note), drop(note, &[evidence, tags::CONTENT_SEQUENCE])).1, false);
        let elsewhere = |note: &mut DataSet| {
            let mut study = note.items(evidence)[0].clone();
            study.put_bytes(tags::STUDY_INSTANCE_UID, VR::UI, "1.2.99");
            note.put_items(evidence, vec![study]);
        };
        check(&elsewhere, false);
    }

    #[test]
    fn a_note_names_exactly_what_it_takes_back_of_the_same_patient() {
        let documents = fixture::documents();
        let of = |kind| documents.iter().find(|it| it.kind == kind).unwrap();
        let (report, map) = (of(Kind::BasicTextReport), of(Kind::HeatMap));
        let note = fixture::rejection_note_of(&[report, map]);
        let data_set = text::read(&note.file).unwrap();
        let title = &data_set.items(tags::CONCEPT_NAME_CODE_SEQUENCE)[0];
        assert_eq!((title.plain(tags::CODE_VALUE), data_set.plain(tags::MODALITY)), ("113037", "KO"));
        assert_eq!(data_set.plain(tags::PATIENT_NAME), "Doe^Jane");
        assert_eq!(data_set.plain(tags::STUDY_INSTANCE_UID), "1.2.3");
        let content = data_set.items(tags::CONTENT_SEQUENCE);
        let types: Vec<&str> = content.iter().map(|item| item.plain(tags::VALUE_TYPE)).collect();
        assert!(types.ends_with(&["TEXT", "COMPOSITE", "IMAGE"]), "{types:?}");
        assert!(content.iter().any(|item| item.plain(tags::TEXT_VALUE) == "AI draft withdrawn: the wrong[2J patient"));
        let study = &data_set.items(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE)[0];
        let series = study.items(tags::REFERENCED_SERIES_SEQUENCE);
        let named = series.iter().flat_map(|it| it.items(tags::REFERENCED_SOP_SEQUENCE));
        let mut named: Vec<&str> = named.map(|it| it.plain(tags::REFERENCED_SOP_INSTANCE_UID)).collect();
        named.sort_unstable();
        let mut expected = [report.sop_instance_uid.as_str(), map.sop_instance_uid.as_str()];
        expected.sort_unstable();
        assert_eq!(named, expected);

        // The same again is the same object; other documents make another one.
        assert_eq!(note.sop_instance_uid, fixture::rejection_note_of(&[report, map]).sop_instance_uid);
        assert_ne!(note.sop_instance_uid, fixture::rejection_note_of(&[report]).sop_instance_uid);
        assert_ne!(note.series_instance_uid, report.series_instance_uid);
    }
}
