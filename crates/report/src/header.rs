//! The modules that every object of ours has: whose study it is, which series, what made it (PS3.3 C.7, C.12.1).

use dataset::{TransferSyntax, Uid, part10::Meta, tags};
use dicom_core::{Tag, VR};

use crate::{
    Error,
    codes::PROCESSING_EQUIPMENT,
    content::{code_item, one_line},
    copy::{self, Copier, Policy},
    document::{ContentTime, Document, EvidenceItem, Provenance, Source},
    elements::DataSet,
    uids::{Derivation, Input, Kind},
    values::trimmed,
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

/// What the UIDs of a report derive from.
pub fn derivation(source: &Source<'_>, provenance: &Provenance) -> Derivation {
    let input =
        |item: &EvidenceItem| Input { sop_instance_uid: item.sop_instance_uid.clone(), digest: item.digest.clone() };
    Derivation {
        study_instance_uid: source.representative.header.study_instance_uid.clone(),
        inputs: source.evidence.iter().map(input).collect(),
        model_digest: provenance.model_digest.clone(),
        rule: provenance.rule.clone(),
        settings_digest: provenance.settings_digest.clone(),
        version: provenance.version,
    }
}

/// An object that is being made: its header, and what its values are written with.
pub(crate) struct Beginning<'a> {
    pub(crate) kind: Kind,
    pub(crate) copier: Copier<'a>,
    pub(crate) data_set: DataSet,
    pub(crate) derivation: Derivation,
    uids: (Uid, Uid, Uid),
}

/// Begins an object: every module but those of its kind. `own_text` is what we write into it besides: it decides the
/// character set. Errors when the source has no identity, or nothing was analysed.
pub(crate) fn begin<'a>(
    kind: Kind,
    source: &Source<'a>,
    provenance: &Provenance,
    own_text: &[&str],
) -> Result<Beginning<'a>, Error> {
    if source.evidence.is_empty() {
        return Err(Error::NoEvidence);
    }
    let names = [&provenance.model_name, &provenance.model_version, &provenance.device_serial];
    let more = [Some(&provenance.software_version), provenance.udi.as_ref()];
    let own = names.into_iter().chain(more.into_iter().flatten()).map(String::as_str).chain(own_text.iter().copied());
    let policy = Policy::for_text(own);
    copy::require_identity(source.representative, policy)?;
    let copier = Copier::new(source.representative, policy);
    let derivation = derivation(source, provenance);
    let class: Uid = kind.sop_class_uid().parse().unwrap_or_else(|_| Uid::derive(&[]));
    let uids = (class, derivation.instance(kind), derivation.series(kind));

    let mut data_set = study(&copier);
    series(&mut data_set, kind, provenance);
    equipment(&mut data_set, kind, provenance);
    data_set.put_bytes(tags::SOP_CLASS_UID, VR::UI, uids.0.as_str());
    data_set.put_bytes(tags::SOP_INSTANCE_UID, VR::UI, uids.1.as_str());
    data_set.put_bytes(tags::SERIES_INSTANCE_UID, VR::UI, uids.2.as_str());
    let time = &provenance.content_time;
    put_moment(&mut data_set, (tags::INSTANCE_CREATION_DATE, tags::INSTANCE_CREATION_TIME), time);
    data_set.put_bytes(tags::INSTANCE_NUMBER, VR::IS, "1");
    Ok(Beginning { kind, copier, data_set, derivation, uids })
}

impl Beginning<'_> {
    /// The Part 10 file.
    pub(crate) fn finish(self) -> Result<Document, Error> {
        let (sop_class_uid, sop_instance_uid, series_instance_uid) = self.uids;
        let meta = Meta {
            sop_class_uid: Some(sop_class_uid.clone()),
            sop_instance_uid: Some(sop_instance_uid.clone()),
            // A constant of the standard is always a UID.
            transfer_syntax_uid: TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN.parse().unwrap_or_else(|_| Uid::derive(&[])),
            source_ae_title: None,
        };
        let mut file = meta.to_bytes();
        self.data_set.encode_into(&mut file)?;
        Ok(Document { kind: self.kind, sop_class_uid, sop_instance_uid, series_instance_uid, file })
    }
}

/// Errors when nobody could say whose study a report of this image would be about: an identifier is missing, or the bytes
/// of the patient's name, ID, its issuer or the accession number have no meaning in the declared character set.
pub fn require_readable(representative: &dataset::Instance) -> Result<(), Error> {
    copy::require_identity(representative, Policy::Source)
}

/// A date and a time.
pub(crate) fn put_moment(to: &mut DataSet, (date, time): (Tag, Tag), moment: &ContentTime) {
    to.put_bytes(date, VR::DA, moment.date());
    to.put_bytes(time, VR::TM, moment.time());
}

/// Patient, General Study, Patient Study and Clinical Trial modules, and the character set of it all.
pub(crate) fn study(copier: &Copier<'_>) -> DataSet {
    let mut to = DataSet::default();
    if let Some(character_set) = copier.character_set() {
        to.put_bytes(tags::SPECIFIC_CHARACTER_SET, VR::CS, character_set);
    }
    to.put_bytes(tags::STUDY_INSTANCE_UID, VR::UI, copier.source.header.study_instance_uid.as_str());
    REQUIRED.iter().for_each(|&(tag, vr)| copier.required(&mut to, tag, vr));
    OPTIONAL.iter().for_each(|&(tag, vr)| copier.optional(&mut to, tag, vr));
    SEQUENCES.iter().for_each(|&tag| copier.sequence(&mut to, tag));
    CODE_SEQUENCES.iter().for_each(|&tag| copier.code_sequence(&mut to, tag));
    deidentification(&mut to, copier);
    clinical_trial(&mut to, copier);
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
    let has = |tag: &Tag| copier.value(*tag, VR::LO).is_some_and(|value| !trimmed(&value).is_empty());
    if TRIAL_NEEDED.iter().all(has) && TRIAL_SUBJECT.iter().any(has) {
        TRIAL_NEEDED.iter().chain(TRIAL_REQUIRED).for_each(|&tag| copier.required(to, tag, VR::LO));
        TRIAL_SUBJECT.iter().for_each(|&tag| copier.optional(to, tag, VR::LO));
    }
}

/// What the series modules of all kinds share (PS3.3 C.7.3.1, C.17.1, C.24.1).
fn series(to: &mut DataSet, kind: Kind, provenance: &Provenance) {
    to.put_bytes(tags::MODALITY, VR::CS, kind.modality());
    to.put_bytes(tags::SERIES_NUMBER, VR::IS, kind.series_number(provenance.version).to_string());
    to.put_bytes(tags::SERIES_DESCRIPTION, VR::LO, kind.series_description());
    put_moment(to, (tags::SERIES_DATE, tags::SERIES_TIME), &provenance.content_time);
}

/// General Equipment (PS3.3 C.7.5.1) and Contributing Equipment (C.12.1.1.5): the program, then the model.
fn equipment(to: &mut DataSet, kind: Kind, provenance: &Provenance) {
    let version = one_line(&provenance.software_version);
    to.put_bytes(tags::MANUFACTURER, VR::LO, dataset::MANUFACTURER);
    to.put_bytes(tags::MANUFACTURER_MODEL_NAME, VR::LO, one_line(&provenance.model_name));
    to.put_bytes(tags::DEVICE_SERIAL_NUMBER, VR::LO, one_line(&provenance.device_serial));
    to.put_bytes(tags::SOFTWARE_VERSIONS, VR::LO, version.clone());
    let udi = provenance.udi.as_ref().map(|udi| {
        let mut item = DataSet::default();
        item.put_bytes(tags::UNIQUE_DEVICE_IDENTIFIER, VR::UT, udi.trim());
        item
    });
    if let Some(udi) = &udi {
        to.put_items(tags::UDI_SEQUENCE, vec![udi.clone()]);
    }
    let contribution = |name: &str, versions: String, serial: Option<&str>, what: &str| {
        let mut item = DataSet::default();
        item.put_items(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![code_item(&PROCESSING_EQUIPMENT)]);
        item.put_bytes(tags::MANUFACTURER, VR::LO, dataset::MANUFACTURER);
        item.put_bytes(tags::MANUFACTURER_MODEL_NAME, VR::LO, name);
        if let Some(serial) = serial {
            item.put_bytes(tags::DEVICE_SERIAL_NUMBER, VR::LO, one_line(serial));
        }
        item.put_bytes(tags::SOFTWARE_VERSIONS, VR::LO, versions);
        item.put_bytes(tags::CONTRIBUTION_DATE_TIME, VR::DT, provenance.content_time.to_string());
        item.put_bytes(tags::CONTRIBUTION_DESCRIPTION, VR::ST, what);
        item
    };
    let mut program = contribution("preread", version, Some(&provenance.device_serial), "AI report drafting");
    if let Some(udi) = udi {
        program.put_items(tags::UDI_SEQUENCE, vec![udi]);
    }
    let mut contributions = vec![program];
    // No model has a part in what takes its drafts back.
    if kind != Kind::RejectionNote {
        let (name, version) = (one_line(&provenance.model_name), one_line(&provenance.model_version));
        contributions.push(contribution(&name, version, None, "AI model that wrote the draft"));
    }
    to.put_items(tags::CONTRIBUTING_EQUIPMENT_SEQUENCE, contributions);
}

/// Body parts that there is one of, so that no side is asked for (PS3.3 C.7.3.1.1.2, PS3.16 annex L).
const UNPAIRED: &[&str] = &[
    "ABDOMEN",
    "AORTA",
    "BLADDER",
    "BRAIN",
    "CHEST",
    "COLON",
    "CSPINE",
    "HEAD",
    "HEART",
    "LIVER",
    "LSPINE",
    "NECK",
    "PELVIS",
    "SKULL",
    "SPINE",
    "SPLEEN",
    "SSPINE",
    "STOMACH",
    "TSPINE",
    "UTERUS",
    "WHOLEBODY",
];

/// Body Part Examined and Laterality (type 2C) of a series of images or presentation states; of an image, its own
/// laterality goes before that of a series.
pub(crate) fn put_laterality(to: &mut DataSet, copier: &Copier<'_>, is_image: bool) {
    let value = |tag| copier.source.header.raw(tag).map(trimmed).unwrap_or_default();
    let part = value(tags::BODY_PART_EXAMINED);
    let valid = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b' ' | b'_');
    if !part.is_empty() && part.len() <= 16 && part.iter().all(valid) {
        to.put_bytes(tags::BODY_PART_EXAMINED, VR::CS, part);
    }
    let side = value(tags::IMAGE_LATERALITY);
    if is_image && [&b"L"[..], b"R", b"U", b"B"].contains(&side) {
        to.put_bytes(tags::IMAGE_LATERALITY, VR::CS, side);
    } else if !UNPAIRED.contains(&to.plain(tags::BODY_PART_EXAMINED)) {
        let sides = [value(tags::LATERALITY), side];
        let side = sides.into_iter().find(|side| [&b"L"[..], b"R"].contains(side));
        to.put_bytes(tags::LATERALITY, VR::CS, side.unwrap_or_default());
    }
}
