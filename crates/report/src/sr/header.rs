//! The modules above the content tree: whose study it is, what made the report, what it was made from.

use std::collections::{BTreeMap, BTreeSet};

use dataset::{Uid, tags};
use dicom_core::{Tag, VR};

use super::{
    Options, SERIES_DESCRIPTION,
    content::{code_item, one_line, reference},
    copy::{Copier, items, trimmed},
};
use crate::{
    codes::PROCESSING_EQUIPMENT,
    document::{Completion, EvidenceItem, Provenance, Source},
    elements::DataSet,
};

/// Present whether the source has them or not (type 2 of the Patient and General Study modules, PS3.3 C.7.1.1, C.7.2.1).
const REQUIRED: &[(Tag, VR)] = &[
    (tags::STUDY_DATE, VR::DA),
    (tags::STUDY_TIME, VR::TM),
    (tags::ACCESSION_NUMBER, VR::SH),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_ID, VR::LO),
    (tags::PATIENT_BIRTH_DATE, VR::DA),
    (tags::PATIENT_SEX, VR::CS),
    (tags::STUDY_ID, VR::SH),
];

/// Taken over if the source has them (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.5.1).
const OPTIONAL: &[(Tag, VR)] = &[
    (tags::INSTITUTION_NAME, VR::LO),
    (tags::STUDY_DESCRIPTION, VR::LO),
    (tags::ISSUER_OF_PATIENT_ID, VR::LO),
    (tags::TYPE_OF_PATIENT_ID, VR::CS),
    (tags::PATIENT_AGE, VR::AS),
    (tags::PATIENT_SIZE, VR::DS),
    (tags::PATIENT_WEIGHT, VR::DS),
    (tags::PATIENT_SPECIES_DESCRIPTION, VR::LO),
    (tags::PATIENT_BREED_DESCRIPTION, VR::LO),
    (tags::RESPONSIBLE_PERSON, VR::PN),
    (tags::RESPONSIBLE_PERSON_ROLE, VR::CS),
    (tags::RESPONSIBLE_ORGANIZATION, VR::LO),
];

const SEQUENCES: &[Tag] = &[
    tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE,
    tags::ISSUER_OF_PATIENT_ID_QUALIFIERS_SEQUENCE,
    tags::OTHER_PATIENT_I_DS_SEQUENCE,
    tags::BREED_REGISTRATION_SEQUENCE,
];

const CODE_SEQUENCES: &[Tag] =
    &[tags::PROCEDURE_CODE_SEQUENCE, tags::PATIENT_SPECIES_CODE_SEQUENCE, tags::PATIENT_BREED_CODE_SEQUENCE];

/// Clinical Trial Subject and Study (PS3.3 C.7.1.3, C.7.2.3): taken over whole or not at all.
const TRIAL_NEEDED: &[Tag] = &[tags::CLINICAL_TRIAL_SPONSOR_NAME, tags::CLINICAL_TRIAL_PROTOCOL_ID];
const TRIAL_REQUIRED: &[Tag] = &[
    tags::CLINICAL_TRIAL_PROTOCOL_NAME,
    tags::CLINICAL_TRIAL_SITE_ID,
    tags::CLINICAL_TRIAL_SITE_NAME,
    tags::CLINICAL_TRIAL_TIME_POINT_ID,
];
const TRIAL_SUBJECT: &[Tag] = &[tags::CLINICAL_TRIAL_SUBJECT_ID, tags::CLINICAL_TRIAL_SUBJECT_READING_ID];

/// All text of our own that goes into the header: it decides the character set.
pub(super) fn own_text(provenance: &Provenance, options: &Options) -> Vec<String> {
    let mut own =
        vec![provenance.model_name.clone(), provenance.device_serial.clone(), provenance.software_version.clone()];
    if let Completion::Partial(why) = &options.completion {
        own.push(why.clone());
    }
    own
}

/// Everything but the SOP identity and the content tree.
pub(super) fn common(copier: &Copier<'_>, source: &Source<'_>, provenance: &Provenance, options: &Options) -> DataSet {
    let mut to = DataSet::default();
    if let Some(character_set) = copier.character_set() {
        to.put_bytes(tags::SPECIFIC_CHARACTER_SET, VR::CS, character_set);
    }
    to.put_bytes(tags::STUDY_INSTANCE_UID, VR::UI, source.representative.header.study_instance_uid.as_str());
    REQUIRED.iter().for_each(|&(tag, vr)| copier.required(&mut to, tag, vr));
    OPTIONAL.iter().for_each(|&(tag, vr)| copier.optional(&mut to, tag, vr));
    SEQUENCES.iter().for_each(|&tag| copier.sequence(&mut to, tag));
    CODE_SEQUENCES.iter().for_each(|&tag| copier.code_sequence(&mut to, tag));
    deidentification(&mut to, copier);
    clinical_trial(&mut to, copier);
    series(&mut to, provenance, options);
    equipment(&mut to, provenance);
    document_general(&mut to, copier, source, provenance, options);
    to
}

/// That a patient's identity was removed is taken over only with the method, without which it is no valid statement
/// (type 1C, PS3.3 C.7.1.1).
fn deidentification(to: &mut DataSet, copier: &Copier<'_>) {
    copier.optional(to, tags::DEIDENTIFICATION_METHOD, VR::LO);
    copier.code_sequence(to, tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE);
    let method = [tags::DEIDENTIFICATION_METHOD, tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE];
    if method.iter().any(|tag| to.get(*tag).is_some()) {
        copier.optional(to, tags::PATIENT_IDENTITY_REMOVED, VR::CS);
    }
}

fn clinical_trial(to: &mut DataSet, copier: &Copier<'_>) {
    let has = |tag: &Tag| copier.source.header.raw(*tag).is_some_and(|raw| !trimmed(raw).is_empty());
    if TRIAL_NEEDED.iter().all(has) && TRIAL_SUBJECT.iter().any(has) {
        TRIAL_NEEDED.iter().chain(TRIAL_REQUIRED).for_each(|&tag| copier.required(to, tag, VR::LO));
        TRIAL_SUBJECT.iter().for_each(|&tag| copier.optional(to, tag, VR::LO));
    }
}

/// SR Document Series (PS3.3 C.17.1).
fn series(to: &mut DataSet, provenance: &Provenance, options: &Options) {
    let time = &provenance.content_time;
    to.put_bytes(tags::MODALITY, VR::CS, "SR");
    to.put_bytes(tags::SERIES_NUMBER, VR::IS, options.series_number.to_string());
    to.put_bytes(tags::SERIES_DESCRIPTION, VR::LO, SERIES_DESCRIPTION);
    to.put_bytes(tags::SERIES_DATE, VR::DA, time.date());
    to.put_bytes(tags::SERIES_TIME, VR::TM, time.time());
    to.put_items(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new());
}

/// General Equipment (PS3.3 C.7.5.1) and Contributing Equipment (C.12.1.1.5).
fn equipment(to: &mut DataSet, provenance: &Provenance) {
    let version = one_line(&provenance.software_version);
    to.put_bytes(tags::MANUFACTURER, VR::LO, dataset::MANUFACTURER);
    to.put_bytes(tags::MANUFACTURER_MODEL_NAME, VR::LO, one_line(&provenance.model_name));
    to.put_bytes(tags::DEVICE_SERIAL_NUMBER, VR::LO, one_line(&provenance.device_serial));
    to.put_bytes(tags::SOFTWARE_VERSIONS, VR::LO, version.clone());
    let mut contributing = DataSet::default();
    contributing.put_items(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![code_item(&PROCESSING_EQUIPMENT)]);
    contributing.put_bytes(tags::MANUFACTURER, VR::LO, dataset::MANUFACTURER);
    contributing.put_bytes(tags::MANUFACTURER_MODEL_NAME, VR::LO, "preread");
    contributing.put_bytes(tags::SOFTWARE_VERSIONS, VR::LO, version);
    contributing.put_bytes(tags::CONTRIBUTION_DATE_TIME, VR::DT, provenance.content_time.to_string());
    contributing.put_bytes(tags::CONTRIBUTION_DESCRIPTION, VR::ST, "AI report drafting");
    to.put_items(tags::CONTRIBUTING_EQUIPMENT_SEQUENCE, vec![contributing]);
}

/// SR Document General (PS3.3 C.17.2) and SOP Common (C.12.1).
fn document_general(
    to: &mut DataSet,
    copier: &Copier<'_>,
    source: &Source<'_>,
    provenance: &Provenance,
    options: &Options,
) {
    let time = &provenance.content_time;
    to.put_bytes(tags::INSTANCE_CREATION_DATE, VR::DA, time.date());
    to.put_bytes(tags::INSTANCE_CREATION_TIME, VR::TM, time.time());
    to.put_bytes(tags::CONTENT_DATE, VR::DA, time.date());
    to.put_bytes(tags::CONTENT_TIME, VR::TM, time.time());
    to.put_bytes(tags::INSTANCE_NUMBER, VR::IS, "1");
    match &options.completion {
        Completion::Complete => to.put_bytes(tags::COMPLETION_FLAG, VR::CS, "COMPLETE"),
        Completion::Partial(why) => {
            to.put_bytes(tags::COMPLETION_FLAG, VR::CS, "PARTIAL");
            to.put_bytes(tags::COMPLETION_FLAG_DESCRIPTION, VR::LO, one_line(why));
        }
    }
    to.put_bytes(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    to.put_bytes(tags::PRELIMINARY_FLAG, VR::CS, "PRELIMINARY");
    let requests = requests(copier);
    if !requests.is_empty() {
        to.put_items(tags::REFERENCED_REQUEST_SEQUENCE, requests);
    }
    to.put_items(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, copier.codes(tags::PROCEDURE_CODE_SEQUENCE));
    let study = &source.representative.header.study_instance_uid;
    to.put_items(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, vec![hierarchy(study, evidence(source))]);
    if let Some(predecessor) = &source.predecessor {
        to.put_items(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, vec![hierarchy(study, [reference_to(predecessor)])]);
    }
}

/// An instance and where it stands: series, class, instance.
type Reference<'a> = (&'a Uid, &'a Uid, &'a Uid);

fn reference_to(item: &EvidenceItem) -> Reference<'_> {
    (&item.series_instance_uid, &item.sop_class_uid, &item.sop_instance_uid)
}

/// Everything analysed and everything the tree refers to, each once.
fn evidence<'a>(source: &'a Source<'_>) -> BTreeSet<Reference<'a>> {
    let representative = &source.representative.header;
    let illustration =
        (&representative.series_instance_uid, &representative.sop_class_uid, &representative.sop_instance_uid);
    source.evidence.iter().map(reference_to).chain([illustration]).collect()
}

/// Hierarchical SOP Instance Reference macro (PS3.3 table C.17-3).
fn hierarchy<'a>(study: &Uid, references: impl IntoIterator<Item = Reference<'a>>) -> DataSet {
    let mut by_series: BTreeMap<&Uid, Vec<DataSet>> = BTreeMap::new();
    for (series, class, instance) in references {
        by_series.entry(series).or_default().push(reference(class, instance));
    }
    let series = |(uid, references): (&Uid, Vec<DataSet>)| {
        let mut series = DataSet::default();
        series.put_bytes(tags::SERIES_INSTANCE_UID, VR::UI, uid.as_str());
        series.put_items(tags::REFERENCED_SOP_SEQUENCE, references);
        series
    };
    let mut hierarchy = DataSet::default();
    hierarchy.put_bytes(tags::STUDY_INSTANCE_UID, VR::UI, study.as_str());
    hierarchy.put_items(tags::REFERENCED_SERIES_SEQUENCE, by_series.into_iter().map(series).collect());
    hierarchy
}

/// Referenced Request Sequence (0040,A370): the orders that the study fulfils, as far as its images tell.
fn requests(copier: &Copier<'_>) -> Vec<DataSet> {
    let header = &copier.source.header;
    let mut of_source = items(copier.source, tags::REQUEST_ATTRIBUTES_SEQUENCE);
    if of_source.is_empty() {
        of_source.push(DataSet::default());
    }
    let mut requests = Vec::new();
    for item in of_source {
        let item = copier.convert_item(item);
        let mut request = DataSet::default();
        let study = item.plain(tags::STUDY_INSTANCE_UID);
        let study = if study.is_empty() { header.study_instance_uid.as_str() } else { study };
        request.put_items(tags::REFERENCED_STUDY_SEQUENCE, Vec::new());
        let mut known = false;
        for (tag, vr, most_characters) in [
            (tags::ACCESSION_NUMBER, VR::SH, 16),
            (tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, 64),
            (tags::REQUESTED_PROCEDURE_ID, VR::SH, 16),
            (tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, 64),
            (tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, 64),
        ] {
            let own = item.bytes(tag).filter(|bytes| !trimmed(bytes).is_empty()).map(<[u8]>::to_vec);
            let value = own.or_else(|| header.raw(tag).map(|raw| copier.convert(raw)));
            // At the top level a value links report and study and is repeated whatever it is; here, where it may be
            // empty (type 2), one that is too long is nothing to repeat.
            let fits = |value: &Vec<u8>| copier.decode(trimmed(value)).chars().count() <= most_characters;
            let value = value.filter(fits).unwrap_or_default();
            known |= !trimmed(&value).is_empty();
            request.put_bytes(tag, vr, value);
        }
        let codes = item.items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE).to_vec();
        known |= !codes.is_empty();
        request.put_items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, codes);
        request.put_bytes(tags::STUDY_INSTANCE_UID, VR::UI, study);
        if known {
            requests.push(request);
        }
    }
    requests
}
