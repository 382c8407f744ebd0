//! The modules of the objects that we write, as tables: which attributes each needs, and which values it may have.
//! Types are those of PS3.3: 1 present with a value, 2 present, perhaps empty. What holds under a condition is a row of
//! [`Iod::conditions`].

use dataset::tags;
use dicom_core::{Tag, VR};

use crate::{
    elements::{DataSet, Value},
    values::trimmed,
};

/// What a module asks of an attribute.
pub(super) struct Attribute {
    pub(super) tag: Tag,
    pub(super) need: Need,
    /// The values it may have; any when there are none.
    pub(super) values: &'static [&'static str],
    /// What each item of a sequence needs.
    pub(super) items: &'static [Attribute],
}

/// The type of an attribute (PS3.5 7.4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Type 1.
    Value,
    /// Type 2.
    Present,
    /// Type 3: only its values or items are checked.
    Optional,
}

/// An information object definition (PS3.3 annex A), as far as it is ours to write.
pub(super) struct Iod {
    pub(super) uid: &'static str,
    pub(super) modules: &'static [&'static [Attribute]],
    /// Not its attributes, though a careless writer copies them from an image: a viewer may believe them.
    pub(super) foreign: &'static [Tag],
    pub(super) conditions: &'static [Condition],
}

/// What must hold under a condition (types 1C and 2C, and rules across attributes).
pub(super) struct Condition {
    pub(super) rule: &'static str,
    pub(super) at: Tag,
    pub(super) sentence: &'static str,
    pub(super) holds: fn(&DataSet) -> bool,
}

const fn one(tag: Tag) -> Attribute {
    Attribute { tag, need: Need::Value, values: &[], items: &[] }
}

const fn two(tag: Tag) -> Attribute {
    Attribute { tag, need: Need::Present, values: &[], items: &[] }
}

const fn one_of(tag: Tag, values: &'static [&'static str]) -> Attribute {
    Attribute { tag, need: Need::Value, values, items: &[] }
}

const fn perhaps_one_of(tag: Tag, values: &'static [&'static str]) -> Attribute {
    Attribute { tag, need: Need::Optional, values, items: &[] }
}

const fn one_sequence(tag: Tag, items: &'static [Attribute]) -> Attribute {
    Attribute { tag, need: Need::Value, values: &[], items }
}

const fn perhaps_sequence(tag: Tag, items: &'static [Attribute]) -> Attribute {
    Attribute { tag, need: Need::Optional, values: &[], items }
}

/// C.7.1.1
const PATIENT: &[Attribute] = &[
    two(tags::PATIENT_NAME),
    two(tags::PATIENT_ID),
    two(tags::PATIENT_BIRTH_DATE),
    two(tags::PATIENT_SEX),
    perhaps_one_of(tags::PATIENT_IDENTITY_REMOVED, &["YES", "NO"]),
];

/// C.7.2.1
const STUDY: &[Attribute] = &[
    one(tags::STUDY_INSTANCE_UID),
    two(tags::STUDY_DATE),
    two(tags::STUDY_TIME),
    two(tags::REFERRING_PHYSICIAN_NAME),
    two(tags::STUDY_ID),
    two(tags::ACCESSION_NUMBER),
];

/// C.7.3.1, of which each kind of series has its own form
const SERIES: &[Attribute] = &[one(tags::SERIES_INSTANCE_UID), one(tags::SERIES_NUMBER)];

/// C.7.5.1
const EQUIPMENT: &[Attribute] = &[two(tags::MANUFACTURER)];

/// C.12.1
const SOP_COMMON: &[Attribute] = &[one(tags::SOP_CLASS_UID), one(tags::SOP_INSTANCE_UID), one(tags::INSTANCE_NUMBER)];

/// C.17.1
const SR_SERIES: &[Attribute] =
    &[one_of(tags::MODALITY, &["SR"]), two(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE)];

/// Table 10-11
const SOP_REFERENCE: &[Attribute] = &[one(tags::REFERENCED_SOP_CLASS_UID), one(tags::REFERENCED_SOP_INSTANCE_UID)];

/// Table C.17-3
const HIERARCHY: &[Attribute] = &[
    one(tags::STUDY_INSTANCE_UID),
    one_sequence(
        tags::REFERENCED_SERIES_SEQUENCE,
        &[one(tags::SERIES_INSTANCE_UID), one_sequence(tags::REFERENCED_SOP_SEQUENCE, SOP_REFERENCE)],
    ),
];

/// C.17.2
const SR_GENERAL: &[Attribute] = &[
    one_of(tags::COMPLETION_FLAG, &["COMPLETE", "PARTIAL"]),
    one_of(tags::VERIFICATION_FLAG, &["VERIFIED", "UNVERIFIED"]),
    perhaps_one_of(tags::PRELIMINARY_FLAG, &["PRELIMINARY", "FINAL"]),
    one(tags::CONTENT_DATE),
    one(tags::CONTENT_TIME),
    two(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE),
    perhaps_sequence(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, HIERARCHY),
    perhaps_sequence(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, HIERARCHY),
    perhaps_sequence(tags::PERTINENT_OTHER_EVIDENCE_SEQUENCE, HIERARCHY),
    perhaps_sequence(
        tags::VERIFYING_OBSERVER_SEQUENCE,
        &[
            one(tags::VERIFYING_OBSERVER_NAME),
            two(tags::VERIFYING_OBSERVER_IDENTIFICATION_CODE_SEQUENCE),
            one(tags::VERIFYING_ORGANIZATION),
            one(tags::VERIFICATION_DATE_TIME),
        ],
    ),
    perhaps_sequence(
        tags::REFERENCED_REQUEST_SEQUENCE,
        &[
            one(tags::STUDY_INSTANCE_UID),
            two(tags::REFERENCED_STUDY_SEQUENCE),
            two(tags::ACCESSION_NUMBER),
            two(tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST),
            two(tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST),
            two(tags::REQUESTED_PROCEDURE_ID),
            two(tags::REQUESTED_PROCEDURE_DESCRIPTION),
            two(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE),
        ],
    ),
];

/// C.17.3, the root
const SR_CONTENT: &[Attribute] = &[
    one_of(tags::VALUE_TYPE, &["CONTAINER"]),
    one(tags::CONCEPT_NAME_CODE_SEQUENCE),
    one_of(tags::CONTINUITY_OF_CONTENT, &["SEPARATE", "CONTINUOUS"]),
];

/// C.17.6.1, C.17.6.2
const KEY_OBJECTS: &[Attribute] = &[
    one_of(tags::MODALITY, &["KO"]),
    two(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE),
    one(tags::CONTENT_DATE),
    one(tags::CONTENT_TIME),
    one_sequence(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, HIERARCHY),
];

/// C.24.1, C.8.6.1, C.24.2
const ENCAPSULATED_PDF: &[Attribute] = &[
    one_of(tags::MODALITY, &["DOC", "SR", "OT"]),
    one_of(tags::CONVERSION_TYPE, &["DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"]),
    two(tags::CONTENT_DATE),
    two(tags::CONTENT_TIME),
    two(tags::ACQUISITION_DATE_TIME),
    one_of(tags::BURNED_IN_ANNOTATION, &["YES", "NO"]),
    two(tags::DOCUMENT_TITLE),
    two(tags::CONCEPT_NAME_CODE_SEQUENCE),
    one_of(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, &["application/pdf"]),
    one(tags::ENCAPSULATED_DOCUMENT),
    perhaps_one_of(tags::VERIFICATION_FLAG, &["VERIFIED", "UNVERIFIED"]),
    perhaps_sequence(tags::SOURCE_INSTANCE_SEQUENCE, SOP_REFERENCE),
];

/// C.8.6.1, C.7.6.1, C.7.6.3
const SECONDARY_CAPTURE: &[Attribute] = &[
    one(tags::MODALITY),
    one_of(tags::CONVERSION_TYPE, &["DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"]),
    one(tags::SAMPLES_PER_PIXEL),
    one_of(tags::PHOTOMETRIC_INTERPRETATION, &["RGB", "MONOCHROME2", "MONOCHROME1"]),
    one(tags::ROWS),
    one(tags::COLUMNS),
    one(tags::BITS_ALLOCATED),
    one(tags::BITS_STORED),
    one(tags::HIGH_BIT),
    one(tags::PIXEL_REPRESENTATION),
    one(tags::PIXEL_DATA),
    one(tags::IMAGE_TYPE),
    perhaps_one_of(tags::BURNED_IN_ANNOTATION, &["YES", "NO"]),
    perhaps_sequence(tags::SOURCE_IMAGE_SEQUENCE, SOP_REFERENCE),
];

/// Table 10-3 with more than one frame, and C.11.11
const PRESENTED: &[Attribute] =
    &[one(tags::SERIES_INSTANCE_UID), one_sequence(tags::REFERENCED_IMAGE_SEQUENCE, SOP_REFERENCE)];

/// C.11.9, C.11.10, C.11.11, C.10.4, C.10.5, C.10.7, C.11.6
const PRESENTATION: &[Attribute] = &[
    one_of(tags::MODALITY, &["PR"]),
    one(tags::PRESENTATION_CREATION_DATE),
    one(tags::PRESENTATION_CREATION_TIME),
    one(tags::CONTENT_LABEL),
    two(tags::CONTENT_DESCRIPTION),
    two(tags::CONTENT_CREATOR_NAME),
    one_sequence(tags::REFERENCED_SERIES_SEQUENCE, PRESENTED),
    one_sequence(
        tags::DISPLAYED_AREA_SELECTION_SEQUENCE,
        &[
            one(tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER),
            one(tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER),
            one_of(tags::PRESENTATION_SIZE_MODE, &["SCALE TO FIT", "TRUE SIZE", "MAGNIFY"]),
        ],
    ),
    one_of(tags::PRESENTATION_LUT_SHAPE, &["IDENTITY", "INVERSE"]),
    perhaps_sequence(tags::GRAPHIC_LAYER_SEQUENCE, &[one(tags::GRAPHIC_LAYER), one(tags::GRAPHIC_LAYER_ORDER)]),
    perhaps_sequence(
        tags::GRAPHIC_ANNOTATION_SEQUENCE,
        &[
            one(tags::GRAPHIC_LAYER),
            perhaps_sequence(
                tags::GRAPHIC_OBJECT_SEQUENCE,
                &[
                    one_of(tags::GRAPHIC_ANNOTATION_UNITS, &["PIXEL", "DISPLAY", "MATRIX"]),
                    one(tags::GRAPHIC_DIMENSIONS),
                    one(tags::NUMBER_OF_GRAPHIC_POINTS),
                    one(tags::GRAPHIC_DATA),
                    one_of(tags::GRAPHIC_TYPE, &["POINT", "POLYLINE", "INTERPOLATED", "CIRCLE", "ELLIPSE"]),
                ],
            ),
            perhaps_sequence(tags::TEXT_OBJECT_SEQUENCE, &[one(tags::UNFORMATTED_TEXT_VALUE)]),
        ],
    ),
];

/// Attributes of an image, an acquisition or an order that stand in no document.
const OF_AN_IMAGE: &[Tag] = &[
    tags::BODY_PART_EXAMINED,
    tags::LATERALITY,
    tags::ACQUISITION_DATE,
    tags::ACQUISITION_TIME,
    tags::FRAME_OF_REFERENCE_UID,
    tags::DEVICE_UID,
    tags::REQUESTED_PROCEDURE_ID,
    tags::PIXEL_DATA,
];

const DEIDENTIFIED: Condition = Condition {
    rule: "type-1c",
    at: tags::DEIDENTIFICATION_METHOD,
    sentence: "must be there once the identity was removed (PS3.3 C.7.1.1)",
    holds: |it| {
        let method = [tags::DEIDENTIFICATION_METHOD, tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE];
        it.plain(tags::PATIENT_IDENTITY_REMOVED) != "YES" || method.iter().any(|tag| has_value(it, *tag))
    },
};

const VERIFIED_IS_COMPLETE: Condition = Condition {
    rule: "verification",
    at: tags::COMPLETION_FLAG,
    sentence: "a verified document must be complete (PS3.3 C.17.2)",
    holds: |it| it.plain(tags::VERIFICATION_FLAG) != "VERIFIED" || it.plain(tags::COMPLETION_FLAG) == "COMPLETE",
};

const VERIFIED_BY_SOMEBODY: Condition = Condition {
    rule: "verification",
    at: tags::VERIFYING_OBSERVER_SEQUENCE,
    sentence: "a verified document must say by whom (PS3.3 C.17.2)",
    holds: |it| it.plain(tags::VERIFICATION_FLAG) != "VERIFIED" || has_value(it, tags::VERIFYING_OBSERVER_SEQUENCE),
};

const WHOLE_PIXELS: Condition = Condition {
    rule: "pixels",
    at: tags::PIXEL_DATA,
    sentence: "is not as long as rows, columns, samples and bits say (PS3.5 8.2)",
    holds: |it| {
        let number = |tag| it.bytes(tag).and_then(|bytes| Some(u64::from(u16::from_le_bytes(bytes.try_into().ok()?))));
        let of = [tags::ROWS, tags::COLUMNS, tags::SAMPLES_PER_PIXEL, tags::BITS_ALLOCATED].map(number);
        let [Some(rows), Some(columns), Some(samples), Some(bits)] = of else { return false };
        let expected = (rows * columns * samples * bits / 8).next_multiple_of(2);
        it.bytes(tags::PIXEL_DATA).is_some_and(|pixels| pixels.len() as u64 == expected)
    },
};

const COLOUR_BY_PIXEL: Condition = Condition {
    rule: "type-1c",
    at: tags::PLANAR_CONFIGURATION,
    sentence: "must be there when a pixel has several samples (PS3.3 C.7.6.3)",
    holds: |it| it.bytes(tags::SAMPLES_PER_PIXEL) != Some(&[3, 0]) || has_value(it, tags::PLANAR_CONFIGURATION),
};

const WHOLE_PDF: Condition = Condition {
    rule: "pdf",
    at: tags::ENCAPSULATED_DOCUMENT,
    sentence: "is no whole PDF, or its length is not the one that is stated (PS3.3 C.24.2)",
    holds: |it| {
        let document = it.bytes(tags::ENCAPSULATED_DOCUMENT).unwrap_or_default();
        let stated = it.bytes(tags::ENCAPSULATED_DOCUMENT_LENGTH).and_then(|bytes| bytes.try_into().ok());
        let fits = stated.is_none_or(|stated| {
            let stated = u32::from_le_bytes(stated) as usize;
            stated <= document.len() && document.len() - stated <= 1
        });
        let end = document.len().saturating_sub(16);
        fits && document.starts_with(b"%PDF-") && document[end..].windows(5).any(|bytes| bytes == b"%%EOF")
    },
};

const DOCUMENT: &[Condition] = &[DEIDENTIFIED, VERIFIED_IS_COMPLETE, VERIFIED_BY_SOMEBODY];

const SR: &[&[Attribute]] = &[PATIENT, STUDY, SERIES, SR_SERIES, EQUIPMENT, SOP_COMMON, SR_GENERAL, SR_CONTENT];

const fn sr(uid: &'static str) -> Iod {
    Iod { uid, modules: SR, foreign: OF_AN_IMAGE, conditions: DOCUMENT }
}

/// The objects that are checked.
pub(super) const IODS: &[Iod] = &[
    sr("1.2.840.10008.5.1.4.1.1.88.11"),
    sr("1.2.840.10008.5.1.4.1.1.88.22"),
    sr("1.2.840.10008.5.1.4.1.1.88.33"),
    sr("1.2.840.10008.5.1.4.1.1.88.34"),
    Iod {
        uid: "1.2.840.10008.5.1.4.1.1.88.59",
        modules: &[PATIENT, STUDY, SERIES, EQUIPMENT, SOP_COMMON, KEY_OBJECTS, SR_CONTENT],
        foreign: OF_AN_IMAGE,
        conditions: &[DEIDENTIFIED],
    },
    Iod {
        uid: "1.2.840.10008.5.1.4.1.1.104.1",
        modules: &[PATIENT, STUDY, SERIES, EQUIPMENT, SOP_COMMON, ENCAPSULATED_PDF],
        foreign: OF_AN_IMAGE,
        conditions: &[DEIDENTIFIED, WHOLE_PDF],
    },
    Iod {
        uid: "1.2.840.10008.5.1.4.1.1.7",
        modules: &[PATIENT, STUDY, SERIES, EQUIPMENT, SOP_COMMON, SECONDARY_CAPTURE],
        foreign: &[tags::FRAME_OF_REFERENCE_UID, tags::DEVICE_UID],
        conditions: &[DEIDENTIFIED, WHOLE_PIXELS, COLOUR_BY_PIXEL],
    },
    Iod {
        uid: "1.2.840.10008.5.1.4.1.1.11.1",
        modules: &[PATIENT, STUDY, SERIES, EQUIPMENT, SOP_COMMON, PRESENTATION],
        foreign: &[tags::FRAME_OF_REFERENCE_UID, tags::DEVICE_UID, tags::PIXEL_DATA],
        conditions: &[DEIDENTIFIED],
    },
];

/// Whether an attribute is there and not empty. Of a text, padding is no value; a number may be 0.
pub(super) fn has_value(data_set: &DataSet, tag: Tag) -> bool {
    data_set.get(tag).is_some_and(|element| match &element.value {
        Value::Bytes(bytes) if is_binary(element.vr) => !bytes.is_empty(),
        Value::Bytes(bytes) => !trimmed(bytes).is_empty(),
        Value::Items(items) => !items.is_empty(),
    })
}

fn is_binary(vr: VR) -> bool {
    use VR::{AT, FD, FL, OB, OD, OF, OL, OV, OW, SL, SS, SV, UL, US, UV};
    matches!(vr, AT | FD | FL | OB | OD | OF | OL | OV | OW | SL | SS | SV | UL | US | UV)
}
