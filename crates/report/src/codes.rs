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

// TID 2000: document title (CID 7000), headings (CID 7001) and elements (CID 7002).
pub(crate) const DIAGNOSTIC_IMAGING_REPORT: Code = ln("18748-4", "Diagnostic Imaging Report");
pub(crate) const SUMMARY: Code = ln("55112-7", "Summary");
pub(crate) const CLINICAL_INFORMATION: Code = ln("55752-0", "Clinical Information");
pub(crate) const CURRENT_PROCEDURE_DESCRIPTIONS: Code = ln("55111-9", "Current Procedure Descriptions");
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

// PS3.3 C.7.5.1: what the contributing equipment did (CID 7005).
pub(crate) const PROCESSING_EQUIPMENT: Code = dcm("109102", "Processing Equipment");

/// The procedure reported when the study names none: by modality, body region unspecified.
pub(crate) fn procedure_of_modality(modality: &str) -> Code {
    match modality {
        "CR" | "DX" | "RG" => ln("43468-8", "XR unspecified body region"),
        "CT" => ln("25045-6", "CT unspecified body region"),
        "MR" => ln("25056-3", "MRI unspecified body region"),
        "NM" => ln("49118-3", "NM unspecified body region"),
        "PT" => ln("44136-0", "PET unspecified body region"),
        _ => sct("363679005", "Imaging procedure"),
    }
}
