//! The coded concepts of our documents (PS3.16 annex D, LOINC, SNOMED CT as PS3.16 uses it).

/// A coded entry: the three parts without which a code means nothing (PS3.3 section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub struct Code {
    /// Code Value (0008,0100), at most 16 characters.
    pub value: &'static str,
    /// Coding Scheme Designator (0008,0102): `SCT`, `DCM`, `LN`...
    pub scheme: &'static str,
    /// Code Meaning (0008,0104), at most 64 characters.
    pub meaning: &'static str,
}

const fn code(value: &'static str, scheme: &'static str, meaning: &'static str) -> Code {
    Code { value, scheme, meaning }
}

pub(crate) const fn dcm(value: &'static str, meaning: &'static str) -> Code {
    code(value, "DCM", meaning)
}

pub(crate) const fn sct(value: &'static str, meaning: &'static str) -> Code {
    code(value, "SCT", meaning)
}

const fn ln(value: &'static str, meaning: &'static str) -> Code {
    code(value, "LN", meaning)
}

const fn ucum(value: &'static str, meaning: &'static str) -> Code {
    code(value, "UCUM", meaning)
}

// TID 2000: document title (CID 7000), headings (CID 7001) and elements (CID 7002).
pub(crate) const DIAGNOSTIC_IMAGING_REPORT: Code = ln("18748-4", "Diagnostic Imaging Report");
pub(crate) const SUMMARY: Code = ln("55112-7", "Summary");
pub(crate) const CLINICAL_INFORMATION: Code = ln("55752-0", "Clinical Information");
pub(crate) const CURRENT_PROCEDURE_DESCRIPTIONS: Code = ln("55111-9", "Current Procedure Descriptions");
pub(crate) const PREVIOUS_FINDINGS: Code = ln("18834-2", "Previous Findings");
pub(crate) const RECOMMENDATIONS: Code = ln("18783-1", "Recommendations");
pub(crate) const PREVIOUS_FINDING: Code = dcm("121069", "Previous Finding");
pub(crate) const RECOMMENDATION: Code = dcm("121075", "Recommendation");
pub(crate) const FINDINGS: Code = ln("59776-5", "Findings");
pub(crate) const IMPRESSIONS: Code = ln("19005-8", "Impressions");
pub(crate) const PROCEDURE_DESCRIPTION: Code = dcm("121065", "Procedure Description");
pub(crate) const FINDING: Code = dcm("121071", "Finding");
pub(crate) const IMPRESSION: Code = dcm("121073", "Impression");
pub(crate) const BEST_ILLUSTRATION: Code = dcm("121080", "Best illustration of finding");

// TID 1204, 1002, 1004: language and observer.
pub(crate) const LANGUAGE: Code = dcm("121049", "Language of Content Item and Descendants");
pub(crate) const ENGLISH: Code = code("en", "RFC5646", "English");
pub(crate) const COUNTRY_OF_LANGUAGE: Code = dcm("121046", "Country of Language");
pub(crate) const UNITED_STATES: Code = code("US", "ISO3166_1", "United States");
pub(crate) const OBSERVER_TYPE: Code = dcm("121005", "Observer Type");
pub(crate) const DEVICE: Code = dcm("121007", "Device");
pub(crate) const DEVICE_OBSERVER_UID: Code = dcm("121012", "Device Observer UID");
pub(crate) const DEVICE_OBSERVER_NAME: Code = dcm("121013", "Device Observer Name");
pub(crate) const DEVICE_OBSERVER_MANUFACTURER: Code = dcm("121014", "Device Observer Manufacturer");
pub(crate) const DEVICE_OBSERVER_MODEL_NAME: Code = dcm("121015", "Device Observer Model Name");
pub(crate) const DEVICE_OBSERVER_SERIAL_NUMBER: Code = dcm("121016", "Device Observer Serial Number");
pub(crate) const PROCEDURE_REPORTED: Code = dcm("121058", "Procedure reported");

// TID 1500: document, image library, measurement groups.
pub(crate) const IMAGING_MEASUREMENT_REPORT: Code = dcm("126000", "Imaging Measurement Report");
pub(crate) const IMAGE_LIBRARY: Code = dcm("111028", "Image Library");
pub(crate) const IMAGE_LIBRARY_GROUP: Code = dcm("126200", "Image Library Group");
pub(crate) const IMAGING_MEASUREMENTS: Code = dcm("126010", "Imaging Measurements");
pub(crate) const QUALITATIVE_EVALUATIONS: Code = code("C0034375", "UMLS", "Qualitative Evaluations");
pub(crate) const MEASUREMENT_GROUP: Code = dcm("125007", "Measurement Group");
pub(crate) const TRACKING_IDENTIFIER: Code = dcm("112039", "Tracking Identifier");
pub(crate) const TRACKING_UNIQUE_IDENTIFIER: Code = dcm("112040", "Tracking Unique Identifier");
pub(crate) const IMAGE_REGION: Code = dcm("111030", "Image Region");
pub(crate) const CENTER: Code = dcm("111010", "Center");
pub(crate) const PATH: Code = dcm("121055", "Path");
pub(crate) const ILLUSTRATION_OF_ROI: Code = dcm("121200", "Illustration of ROI");
pub(crate) const SOURCE_OF_MEASUREMENT: Code = dcm("121112", "Source of Measurement");
pub(crate) const FINDING_SITE: Code = sct("363698007", "Finding Site");
pub(crate) const LATERALITY: Code = sct("272741003", "Laterality");
pub(crate) const CERTAINTY_OF_FINDING: Code = dcm("111012", "Certainty of Finding");
pub(crate) const PRESENCE: Code = sct("705057003", "Presence");
pub(crate) const PRESENT: Code = sct("52101004", "Present");
pub(crate) const ABSENT: Code = sct("2667000", "Absent");

// TID 4019: the algorithm.
pub(crate) const ALGORITHM_FAMILY: Code = dcm("111000", "Algorithm Family");
pub(crate) const ALGORITHM_NAME: Code = dcm("111001", "Algorithm Name");
pub(crate) const ALGORITHM_PARAMETERS: Code = dcm("111002", "Algorithm Parameters");
pub(crate) const ALGORITHM_VERSION: Code = dcm("111003", "Algorithm Version");
pub(crate) const ARTIFICIAL_INTELLIGENCE: Code = dcm("123110", "Artificial Intelligence");

// TID 2010: key objects.
pub(crate) const OF_INTEREST: Code = dcm("113000", "Of Interest");
pub(crate) const REJECTED_FOR_PATIENT_SAFETY: Code = dcm("113037", "Rejected for Patient Safety Reasons");
pub(crate) const KEY_OBJECT_DESCRIPTION: Code = dcm("113012", "Key Object Description");

// PS3.3 C.7.6.1.1.4: what a source image was used for (CID 7202).
pub(crate) const SOURCE_IMAGE: Code = dcm("121322", "Source image for image processing operation");

// What is measured, and its units (UCUM).

/// The longest distance across.
pub const DIAMETER: Code = sct("81827009", "Diameter");
/// The distance from one point to another.
pub const LENGTH: Code = sct("410668003", "Length");
/// The area within an outline.
pub const AREA: Code = sct("42798000", "Area");
/// Millimetre.
pub const MILLIMETRE: Code = ucum("mm", "mm");
/// Square millimetre.
pub const SQUARE_MILLIMETRE: Code = ucum("mm2", "square millimeter");
/// Pixels, of an image that does not say how large they are.
pub const PIXELS: Code = ucum("{pixels}", "pixels");
/// Hundredths.
pub const PERCENT: Code = ucum("%", "Percent");

// Where: the sides (CID 244) and the organ that most findings of this house are in.

/// The left one.
pub const LEFT: Code = sct("7771000", "Left");
/// The right one.
pub const RIGHT: Code = sct("24028007", "Right");
/// Both.
pub const BOTH_SIDES: Code = sct("51440002", "Bilateral");
/// The lung.
pub const LUNG: Code = sct("39607008", "Lung");

/// Every code of a document's structure. With the findings of the vocabulary and what was taken over from the source, it
/// is all that a document of ours may contain.
const STRUCTURE: &[Code] = &[
    DIAGNOSTIC_IMAGING_REPORT,
    SUMMARY,
    CLINICAL_INFORMATION,
    CURRENT_PROCEDURE_DESCRIPTIONS,
    FINDINGS,
    IMPRESSIONS,
    PREVIOUS_FINDINGS,
    PREVIOUS_FINDING,
    RECOMMENDATIONS,
    RECOMMENDATION,
    PROCEDURE_DESCRIPTION,
    FINDING,
    IMPRESSION,
    BEST_ILLUSTRATION,
    LANGUAGE,
    ENGLISH,
    COUNTRY_OF_LANGUAGE,
    UNITED_STATES,
    OBSERVER_TYPE,
    DEVICE,
    DEVICE_OBSERVER_UID,
    DEVICE_OBSERVER_NAME,
    DEVICE_OBSERVER_MANUFACTURER,
    DEVICE_OBSERVER_MODEL_NAME,
    DEVICE_OBSERVER_SERIAL_NUMBER,
    PROCEDURE_REPORTED,
    IMAGING_MEASUREMENT_REPORT,
    IMAGE_LIBRARY,
    IMAGE_LIBRARY_GROUP,
    IMAGING_MEASUREMENTS,
    QUALITATIVE_EVALUATIONS,
    MEASUREMENT_GROUP,
    TRACKING_IDENTIFIER,
    TRACKING_UNIQUE_IDENTIFIER,
    IMAGE_REGION,
    CENTER,
    PATH,
    ILLUSTRATION_OF_ROI,
    SOURCE_OF_MEASUREMENT,
    FINDING_SITE,
    LATERALITY,
    CERTAINTY_OF_FINDING,
    PRESENCE,
    PRESENT,
    ABSENT,
    ALGORITHM_FAMILY,
    ALGORITHM_NAME,
    ALGORITHM_PARAMETERS,
    ALGORITHM_VERSION,
    ARTIFICIAL_INTELLIGENCE,
    OF_INTEREST,
    REJECTED_FOR_PATIENT_SAFETY,
    KEY_OBJECT_DESCRIPTION,
    SOURCE_IMAGE,
    PROCESSING_EQUIPMENT,
    DIAMETER,
    LENGTH,
    AREA,
    MILLIMETRE,
    SQUARE_MILLIMETRE,
    PIXELS,
    PERCENT,
    LEFT,
    RIGHT,
    BOTH_SIDES,
    LUNG,
];

/// The one table of the codes that a document of ours may contain, but for those taken over from the source.
pub(crate) fn all() -> impl Iterator<Item = Code> {
    let procedures = MODALITIES.iter().map(|(_, code)| *code).chain([IMAGING_PROCEDURE]);
    let findings = crate::vocabulary::Concept::all().filter_map(crate::vocabulary::Concept::code);
    let sites = crate::vocabulary::Site::all().filter_map(crate::vocabulary::Site::code);
    STRUCTURE.iter().copied().chain(procedures).chain(findings).chain(sites)
}

// PS3.3 C.7.5.1: what the contributing equipment did (CID 7005).
pub(crate) const PROCESSING_EQUIPMENT: Code = dcm("109102", "Processing Equipment");

const IMAGING_PROCEDURE: Code = sct("363679005", "Imaging procedure");

const MODALITIES: &[(&[&str], Code)] = &[
    (&["CR", "DX", "RG"], ln("43468-8", "XR unspecified body region")),
    (&["CT"], ln("25045-6", "CT unspecified body region")),
    (&["MR"], ln("25056-3", "MRI unspecified body region")),
    (&["NM"], ln("49118-3", "NM unspecified body region")),
    (&["PT"], ln("44136-0", "PET unspecified body region")),
];

/// The procedure reported when the study names none: by modality, body region unspecified.
pub(crate) fn procedure_of_modality(modality: &str) -> Code {
    let row = MODALITIES.iter().find(|(modalities, _)| modalities.contains(&modality));
    row.map_or(IMAGING_PROCEDURE, |(_, code)| *code)
}
