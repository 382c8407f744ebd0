//! `report.json`: the report for a program. Nothing of the patient in it but UIDs.

use dataset::Uid;
use serde::Serialize;

use crate::{
    Derivation,
    check::Objection,
    codes::Code,
    document::{Document, Provenance},
    draft::{Confidence, Draft, Finding, Grid, Presence, Side, Size, Zone},
    text,
    vocabulary::{Concept, Urgency},
};

/// The whole report, ready for serde.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Study Instance UID (0020,000D).
    pub study_instance_uid: Uid,
    /// SOP Instance UIDs of what was read.
    pub inputs: Vec<Uid>,
    /// What was understood.
    pub findings: Vec<FindingEntry>,
    /// The model's sentence that the study is normal.
    pub normal: Option<String>,
    /// The impression, as the documents have it.
    pub impression: Vec<String>,
    /// The sentences about the images that were not wholly understood.
    pub unrecognised: Vec<String>,
    /// Sentences beyond the limit.
    pub omitted: usize,
    /// Why the checks struck sentences out.
    pub struck: Vec<String>,
    /// What speaks against the draft.
    pub objections: Vec<Objection>,
    /// What made it.
    pub provenance: ProvenanceEntry,
    /// The documents made of it.
    pub documents: Vec<DocumentEntry>,
}

/// A finding in `report.json`.
#[derive(Debug, Clone, Serialize)]
pub struct FindingEntry {
    /// What.
    pub concept: Concept,
    /// Its code, if it has one.
    pub code: Option<Code>,
    /// There or not.
    pub presence: Presence,
    /// Which side.
    pub side: Option<Side>,
    /// Where in the lung.
    pub zone: Option<Zone>,
    /// How large or severe.
    pub size: Option<Size>,
    /// How soon to look.
    pub urgency: Urgency,
    /// The model's sentence.
    pub text: String,
    /// Token probabilities.
    pub confidence: Option<Confidence>,
    /// What the model attended to.
    pub attention: Option<AttentionEntry>,
}

/// An attention map in `report.json`.
#[derive(Debug, Clone, Serialize)]
pub struct AttentionEntry {
    /// Row and column of the cell attended to most, from the top left.
    pub best_cell: Option<(usize, usize)>,
    /// The whole map.
    #[serde(flatten)]
    pub grid: Grid,
}

/// Provenance in `report.json`.
#[derive(Debug, Clone, Serialize)]
pub struct ProvenanceEntry {
    /// The model's name.
    pub model_name: String,
    /// The model's version.
    pub model_version: String,
    /// The digest of its weights.
    pub model_digest: String,
    /// What its makers want said.
    pub notice: Option<String>,
    /// Which prompt.
    pub prompt_id: String,
    /// How it was decoded.
    pub settings: String,
    /// The digest of the rule's settings that are not the default.
    pub settings_digest: Option<String>,
    /// The rule that chose it.
    pub rule: String,
    /// The report's version.
    pub version: u32,
    /// Device Observer UID.
    pub device_uid: Uid,
    /// Software Versions.
    pub software_version: String,
    /// When drafting started, `YYYYMMDDHHMMSS`.
    pub content_time: String,
}

/// A document in `report.json`.
#[derive(Debug, Clone, Serialize)]
pub struct DocumentEntry {
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: Uid,
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: Uid,
    /// Series Instance UID (0020,000E).
    pub series_instance_uid: Uid,
}

/// What a draft says, of which no report was made.
#[derive(Debug, Clone, Serialize)]
pub struct Drafted {
    /// What was understood.
    pub findings: Vec<FindingEntry>,
    /// The model's sentence that the study is normal.
    pub normal: Option<String>,
    /// The impression, as the documents have it.
    pub impression: Vec<String>,
    /// The sentences about the images that were not wholly understood.
    pub unrecognised: Vec<String>,
    /// Sentences beyond the limit.
    pub omitted: usize,
    /// Why the checks struck sentences out.
    pub struck: Vec<String>,
}

impl From<&Draft> for Drafted {
    fn from(draft: &Draft) -> Self {
        Self {
            findings: draft.findings.iter().map(FindingEntry::from).collect(),
            normal: draft.normal.as_ref().map(|normal| normal.text.clone()),
            impression: text::impression_lines(draft),
            unrecognised: draft.not_understood().map(|sentence| sentence.text.clone()).collect(),
            omitted: draft.structure.omitted,
            struck: draft.struck(),
        }
    }
}

impl Report {
    /// Puts together what is known about one reading.
    pub fn new(
        draft: &Draft,
        objections: &[Objection],
        provenance: &Provenance,
        derivation: &Derivation,
        documents: &[Document],
    ) -> Self {
        Self {
            study_instance_uid: derivation.study_instance_uid.clone(),
            inputs: derivation.inputs.iter().map(|input| input.sop_instance_uid.clone()).collect(),
            findings: draft.findings.iter().map(FindingEntry::from).collect(),
            normal: draft.normal.as_ref().map(|normal| normal.text.clone()),
            impression: text::impression_lines(draft),
            unrecognised: draft.not_understood().map(|sentence| sentence.text.clone()).collect(),
            omitted: draft.structure.omitted,
            struck: draft.struck(),
            objections: objections.to_vec(),
            provenance: ProvenanceEntry::from(provenance),
            documents: documents.iter().map(DocumentEntry::from).collect(),
        }
    }
}

impl From<&Finding> for FindingEntry {
    fn from(finding: &Finding) -> Self {
        let attention = |grid: &Grid| AttentionEntry { best_cell: grid.best_cell(), grid: grid.clone() };
        Self {
            concept: finding.concept,
            code: finding.concept.code(),
            presence: finding.presence,
            side: finding.side,
            zone: finding.zone,
            size: finding.size,
            urgency: finding.concept.urgency(),
            text: finding.text.clone(),
            confidence: finding.confidence,
            attention: finding.attention.as_ref().map(attention),
        }
    }
}

impl From<&Provenance> for ProvenanceEntry {
    fn from(provenance: &Provenance) -> Self {
        Self {
            model_name: provenance.model_name.clone(),
            model_version: provenance.model_version.clone(),
            model_digest: provenance.model_digest.clone(),
            notice: provenance.notice.clone(),
            prompt_id: provenance.prompt_id.clone(),
            settings: provenance.settings.clone(),
            settings_digest: provenance.settings_digest.clone(),
            rule: provenance.rule.clone(),
            version: provenance.version,
            device_uid: provenance.device_uid.clone(),
            software_version: provenance.software_version.clone(),
            content_time: provenance.content_time.to_string(),
        }
    }
}

impl From<&Document> for DocumentEntry {
    fn from(document: &Document) -> Self {
        Self {
            sop_class_uid: document.sop_class_uid.clone(),
            sop_instance_uid: document.sop_instance_uid.clone(),
            series_instance_uid: document.series_instance_uid.clone(),
        }
    }
}
