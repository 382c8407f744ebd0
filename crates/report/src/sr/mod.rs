//! The draft as DICOM Structured Reports.

mod content;
mod copy;
mod header;

use std::collections::BTreeSet;

use dataset::{TransferSyntax, Uid, part10::Meta, tags};
use dicom_core::VR;

use crate::{
    Error,
    codes::{
        BEST_ILLUSTRATION, CLINICAL_INFORMATION, COUNTRY_OF_LANGUAGE, CURRENT_PROCEDURE_DESCRIPTIONS, DEVICE,
        DEVICE_OBSERVER_MANUFACTURER, DEVICE_OBSERVER_MODEL_NAME, DEVICE_OBSERVER_NAME, DEVICE_OBSERVER_SERIAL_NUMBER,
        DEVICE_OBSERVER_UID, DIAGNOSTIC_IMAGING_REPORT, ENGLISH, FINDING, FINDINGS, IMPRESSION, IMPRESSIONS, LANGUAGE,
        OBSERVER_TYPE, PROCEDURE_DESCRIPTION, PROCEDURE_REPORTED, SUMMARY, UNITED_STATES, procedure_of_modality,
    },
    document::{Completion, Document, EvidenceItem, Provenance, Source},
    draft::Draft,
    text,
    uids::{Derivation, Input, Kind},
};
use content::{CodeValue, Item, ItemValue, TextValue, container};
use copy::{Copier, Policy};

pub(crate) use copy::{is_date, trimmed};

/// The SOP class of a text report (PS3.3 A.35.1, A.35.2). Both have the same content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TextClass {
    /// Basic Text SR.
    #[default]
    BasicText,
    /// Enhanced SR, for archives that take no Basic Text SR.
    Enhanced,
}

impl TextClass {
    /// SOP Class UID (PS3.4 table B.5-1).
    pub fn uid(self) -> &'static str {
        match self {
            Self::BasicText => "1.2.840.10008.5.1.4.1.1.88.11",
            Self::Enhanced => "1.2.840.10008.5.1.4.1.1.88.22",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::BasicText => Kind::BasicTextReport,
            Self::Enhanced => Kind::EnhancedTextReport,
        }
    }
}

/// What a destination asks of a text report.
#[derive(Debug, Clone)]
pub struct Options {
    /// As which SOP class.
    pub class: TextClass,
    /// Whether all stages ran on the whole study.
    pub completion: Completion,
    /// Series Number (0020,0011), from 900 on so that it sorts behind the images.
    pub series_number: u32,
    /// What is known about why the study was made; the section is left out when nothing is.
    pub clinical_information: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            class: TextClass::default(),
            completion: Completion::default(),
            series_number: 901,
            clinical_information: None,
        }
    }
}

/// Series Description (0008,103E) of every document.
pub const SERIES_DESCRIPTION: &str = "AI DRAFT report - not verified";

/// What the UIDs of a report derive from.
pub fn derivation(source: &Source<'_>, provenance: &Provenance) -> Derivation {
    let input =
        |item: &EvidenceItem| Input { sop_instance_uid: item.sop_instance_uid.clone(), digest: item.digest.clone() };
    Derivation {
        study_instance_uid: source.representative.header.study_instance_uid.clone(),
        inputs: source.evidence.iter().map(input).collect(),
        model_digest: provenance.model_digest.clone(),
        rule: provenance.rule.clone(),
        version: provenance.version,
    }
}

/// The draft as a TID 2000 Basic Diagnostic Imaging Report.
///
/// The patient, study and order are the representative instance's, byte for byte as long as all new text is ASCII, in
/// UTF-8 otherwise. The same arguments give the same bytes.
pub fn text_report(
    draft: &Draft,
    source: &Source<'_>,
    provenance: &Provenance,
    options: &Options,
) -> Result<Document, Error> {
    if source.evidence.is_empty() {
        return Err(Error::NoEvidence);
    }
    source.representative.header.require_identity()?;
    let derivation = derivation(source, provenance);
    let kind = options.class.kind();
    let sop_instance_uid = derivation.instance(kind);
    let series_instance_uid = derivation.series(kind);

    let sections = sections(draft, source, provenance, options);
    let own = header::own_text(provenance, options);
    let ascii = sections.iter().all(Item::is_ascii) && own.iter().all(|text| text.is_ascii());
    let policy = if ascii { Policy::Source } else { Policy::Unicode };
    let copier = Copier::new(source.representative, policy);

    let mut data_set = header::common(&copier, source, provenance, options);
    data_set.put_bytes(tags::SOP_CLASS_UID, VR::UI, options.class.uid());
    data_set.put_bytes(tags::SOP_INSTANCE_UID, VR::UI, sop_instance_uid.as_str());
    data_set.put_bytes(tags::SERIES_INSTANCE_UID, VR::UI, series_instance_uid.as_str());
    content::root(&mut data_set, DIAGNOSTIC_IMAGING_REPORT, "2000", &sections, &copier);

    let class: Uid = options.class.uid().parse().unwrap_or_else(|_| source.representative.header.sop_class_uid.clone());
    let meta = Meta {
        sop_class_uid: Some(class.clone()),
        sop_instance_uid: Some(sop_instance_uid.clone()),
        transfer_syntax_uid: explicit_little_endian(),
        source_ae_title: None,
    };
    let mut file = meta.to_bytes();
    file.extend(data_set.encode()?);
    Ok(Document { sop_class_uid: class, sop_instance_uid, series_instance_uid, file })
}

fn explicit_little_endian() -> Uid {
    // A constant of the standard is always a UID.
    TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN.parse().unwrap_or_else(|_| Uid::derive(&[]))
}

/// Everything under the root, in the order of TID 2000.
fn sections(draft: &Draft, source: &Source<'_>, provenance: &Provenance, options: &Options) -> Vec<Item> {
    let mut items = vec![procedure_reported(source)];
    items.extend(observation_context(provenance));
    items.push(container(SUMMARY, vec![text(SUMMARY, text::first_line(provenance))]));
    if let Some(known) = options.clinical_information.as_ref().filter(|known| !known.trim().is_empty()) {
        items.push(container(CLINICAL_INFORMATION, vec![text(CLINICAL_INFORMATION, known.clone())]));
    }
    items.push(container(CURRENT_PROCEDURE_DESCRIPTIONS, procedure_description(source, provenance)));
    items.push(container(FINDINGS, findings(draft, source)));
    let impressions = draft.impression.iter().map(|line| text(IMPRESSION, line.clone())).collect();
    items.push(container(IMPRESSIONS, impressions));
    items
}

fn text(name: crate::Code, value: impl Into<String>) -> Item {
    Item::contains(name, ItemValue::Text(TextValue::Own(content::multi_line(&value.into()))))
}

fn procedure_reported(source: &Source<'_>) -> Item {
    let copied = copy::code_items(source.representative, tags::PROCEDURE_CODE_SEQUENCE).into_iter().next();
    let code = copied.map_or_else(
        || CodeValue::Own(procedure_of_modality(&source.representative.header.modality())),
        CodeValue::Copied,
    );
    Item::modifier(PROCEDURE_REPORTED, ItemValue::Code(code))
}

/// TID 1204 and TID 1002: in English, by a device.
fn observation_context(provenance: &Provenance) -> Vec<Item> {
    let country = Item::modifier(COUNTRY_OF_LANGUAGE, ItemValue::Code(CodeValue::Own(UNITED_STATES)));
    let mut language = Item::modifier(LANGUAGE, ItemValue::Code(CodeValue::Own(ENGLISH)));
    language.children.push(country);
    let observer = |name, value: &str| {
        let value = content::one_line(value);
        (!value.is_empty()).then(|| Item::context(name, ItemValue::Text(TextValue::Own(value))))
    };
    let mut items = vec![
        language,
        Item::context(OBSERVER_TYPE, ItemValue::Code(CodeValue::Own(DEVICE))),
        Item::context(DEVICE_OBSERVER_UID, ItemValue::Uid(provenance.device_uid.clone())),
    ];
    items.extend(observer(DEVICE_OBSERVER_NAME, "AI report drafter"));
    items.extend(observer(DEVICE_OBSERVER_MANUFACTURER, dataset::MANUFACTURER));
    items.extend(observer(DEVICE_OBSERVER_MODEL_NAME, &provenance.model_name));
    items.extend(observer(DEVICE_OBSERVER_SERIAL_NUMBER, &provenance.device_serial));
    items
}

/// What was examined, in the study's own words, and how the draft was made.
fn procedure_description(source: &Source<'_>, provenance: &Provenance) -> Vec<Item> {
    let study = trimmed(source.representative.header.raw(tags::STUDY_DESCRIPTION).unwrap_or_default());
    let mut items = Vec::new();
    if !study.is_empty() {
        items.push(Item::contains(PROCEDURE_DESCRIPTION, ItemValue::Text(TextValue::Copied(study.to_vec()))));
    }
    let inputs: BTreeSet<&Uid> = source.evidence.iter().map(|item| &item.sop_instance_uid).collect();
    let lines = text::provenance_lines(provenance, Some(inputs.len()));
    items.extend(lines.into_iter().map(|line| text(PROCEDURE_DESCRIPTION, line)));
    items
}

fn findings(draft: &Draft, source: &Source<'_>) -> Vec<Item> {
    let header = &source.representative.header;
    let illustrated = |line: String| {
        let mut item = text(FINDING, line);
        if header.has_pixel_data() {
            item.children.push(Item::inferred_from(
                BEST_ILLUSTRATION,
                ItemValue::Image { class: header.sop_class_uid.clone(), instance: header.sop_instance_uid.clone() },
            ));
        }
        item
    };
    text::finding_lines(draft).into_iter().map(illustrated).collect()
}

#[cfg(test)]
mod tests;
