//! The modules above the content tree (PS3.3 A.35, C.7.1.1, C.7.2.1, C.7.5.1, C.12.1, C.17.1, C.17.2).

use dataset::tags;
use dicom_core::Tag;

use super::{Violations, encoding::keyword};
use crate::{
    elements::{DataSet, Value},
    sr::{SERIES_DESCRIPTION, trimmed},
};

/// Present with a value (type 1).
const WITH_VALUE: &[Tag] = &[
    tags::SOP_CLASS_UID,
    tags::SOP_INSTANCE_UID,
    tags::CONTENT_DATE,
    tags::CONTENT_TIME,
    tags::MODALITY,
    tags::STUDY_INSTANCE_UID,
    tags::SERIES_INSTANCE_UID,
    tags::SERIES_NUMBER,
    tags::INSTANCE_NUMBER,
    tags::COMPLETION_FLAG,
    tags::VERIFICATION_FLAG,
    tags::VALUE_TYPE,
    tags::CONCEPT_NAME_CODE_SEQUENCE,
    tags::CONTINUITY_OF_CONTENT,
];

/// Present, perhaps empty (type 2).
const PRESENT: &[Tag] = &[
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACCESSION_NUMBER,
    tags::MANUFACTURER,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::STUDY_ID,
    tags::PERFORMED_PROCEDURE_CODE_SEQUENCE,
];

/// Not attributes of an SR (PS3.3 A.35): a viewer may believe them.
const FOREIGN: &[Tag] = &[
    tags::BODY_PART_EXAMINED,
    tags::LATERALITY,
    tags::ACQUISITION_DATE,
    tags::ACQUISITION_TIME,
    tags::FRAME_OF_REFERENCE_UID,
    tags::DEVICE_UID,
    tags::REQUESTED_PROCEDURE_ID,
    tags::PIXEL_DATA,
];

/// Flags and the values that they may have.
const FLAGS: &[(Tag, &[&str])] = &[
    (tags::MODALITY, &["SR"]),
    (tags::COMPLETION_FLAG, &["COMPLETE", "PARTIAL"]),
    (tags::VERIFICATION_FLAG, &["VERIFIED", "UNVERIFIED"]),
    (tags::PRELIMINARY_FLAG, &["PRELIMINARY", "FINAL"]),
];

pub(super) fn has_value(data_set: &DataSet, tag: Tag) -> bool {
    data_set.get(tag).is_some_and(|element| match &element.value {
        Value::Bytes(bytes) => !trimmed(bytes).is_empty(),
        Value::Items(items) => !items.is_empty(),
    })
}

pub(super) fn check(data_set: &DataSet, found: &mut Violations) {
    for &tag in WITH_VALUE {
        found.require(has_value(data_set, tag), "type-1", keyword(tag), "must be there with a value");
    }
    for &tag in PRESENT {
        found.require(data_set.get(tag).is_some(), "type-2", keyword(tag), "must be there, perhaps empty");
    }
    for &tag in FOREIGN {
        found.require(data_set.get(tag).is_none(), "foreign", keyword(tag), "is no attribute of an SR");
    }
    for &(tag, allowed) in FLAGS {
        let value = data_set.plain(tag);
        let good = value.is_empty() || allowed.contains(&value);
        found.require(good, "flag", keyword(tag), format!("must be one of {}", allowed.join(", ")));
    }
    let removed = data_set.plain(tags::PATIENT_IDENTITY_REMOVED) == "YES";
    let method = [tags::DEIDENTIFICATION_METHOD, tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE];
    let said = method.iter().any(|tag| has_value(data_set, *tag));
    found.require(!removed || said, "type-1c", "DeidentificationMethod", "must be there once the identity was removed");
    verification(data_set, found);
    draft_marks(data_set, found);
}

/// PS3.3 C.17.2: verified means complete, and by somebody.
fn verification(data_set: &DataSet, found: &mut Violations) {
    if data_set.plain(tags::VERIFICATION_FLAG) == "VERIFIED" {
        let complete = data_set.plain(tags::COMPLETION_FLAG) == "COMPLETE";
        found.require(complete, "verification", "CompletionFlag", "a verified document must be complete");
        let observers = has_value(data_set, tags::VERIFYING_OBSERVER_SEQUENCE);
        found.require(observers, "verification", "VerifyingObserverSequence", "a verified document must say by whom");
    }
}

/// What every document of our own says about itself, wherever a viewer may look.
fn draft_marks(data_set: &DataSet, found: &mut Violations) {
    if data_set.plain(tags::MANUFACTURER) != dataset::MANUFACTURER {
        return;
    }
    let unverified = data_set.plain(tags::VERIFICATION_FLAG) == "UNVERIFIED";
    found.require(unverified, "draft", "VerificationFlag", "our documents are UNVERIFIED");
    let preliminary = data_set.plain(tags::PRELIMINARY_FLAG) == "PRELIMINARY";
    found.require(preliminary, "draft", "PreliminaryFlag", "our documents are PRELIMINARY");
    let described = data_set.plain(tags::SERIES_DESCRIPTION) == SERIES_DESCRIPTION;
    found.require(described, "draft", "SeriesDescription", "our series say that they are a draft");
    let number = data_set.plain(tags::SERIES_NUMBER).parse::<u32>().is_ok_and(|number| number >= 900);
    found.require(number, "draft", "SeriesNumber", "our series sort behind the images: 900 or more");
    for tag in [tags::MANUFACTURER_MODEL_NAME, tags::DEVICE_SERIAL_NUMBER, tags::SOFTWARE_VERSIONS] {
        found.require(has_value(data_set, tag), "draft", keyword(tag), "our documents say what made them");
    }
    let contributing = has_value(data_set, tags::CONTRIBUTING_EQUIPMENT_SEQUENCE);
    found.require(contributing, "draft", "ContributingEquipmentSequence", "our documents say what made them");
}
