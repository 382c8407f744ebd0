//! The draft as a TID 2000 Basic Diagnostic Imaging Report.

use std::collections::BTreeSet;

use dataset::{Meaning, Uid, tags};

use super::{finish, language_and_observer, procedure_reported};
use crate::{
    Code, Error,
    codes::{
        BEST_ILLUSTRATION, CLINICAL_INFORMATION, CURRENT_PROCEDURE_DESCRIPTIONS, DIAGNOSTIC_IMAGING_REPORT, FINDING,
        FINDINGS, IMPRESSION, IMPRESSIONS, PREVIOUS_FINDING, PREVIOUS_FINDINGS, PROCEDURE_DESCRIPTION, RECOMMENDATION,
        RECOMMENDATIONS, SUMMARY,
    },
    content::{self, Item, ItemValue, TextValue, container},
    document::{Completion, Document, Provenance, Source},
    draft::Draft,
    structure::SectionKind,
    text,
    uids::Kind,
};

use super::general::copy_notes;

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
    /// Which of the documents of a reading it makes.
    pub fn kind(self) -> Kind {
        match self {
            Self::BasicText => Kind::BasicTextReport,
            Self::Enhanced => Kind::EnhancedTextReport,
        }
    }

    /// SOP Class UID (PS3.4 table B.5-1).
    pub fn uid(self) -> &'static str {
        self.kind().sop_class_uid()
    }
}

/// What a destination asks of a text report.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// As which SOP class.
    pub class: TextClass,
    /// Whether all stages ran on the whole study.
    pub completion: Completion,
    /// What is known about why the study was made; the section is left out when nothing is.
    pub clinical_information: Option<String>,
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
    let sections = sections(draft, source, provenance, options);
    let root = (DIAGNOSTIC_IMAGING_REPORT, "2000", sections.as_slice());
    finish(options.class.kind(), root, source, provenance, &options.completion, [])
}

/// Everything under the root, in the order of TID 2000.
fn sections(draft: &Draft, source: &Source<'_>, provenance: &Provenance, options: &Options) -> Vec<Item> {
    let mut items = vec![procedure_reported(source)];
    items.extend(language_and_observer(provenance));
    items.push(container(SUMMARY, vec![text(SUMMARY, text::first_line(provenance))]));
    let own = |kind: SectionKind| text::own_words(draft, move |section| section == kind);
    let texts = |name: Code, lines: Vec<String>| lines.into_iter().map(|line| text(name, line)).collect::<Vec<_>>();
    let known = options.clinical_information.iter().filter(|known| !known.trim().is_empty()).cloned();
    let clinical = texts(CLINICAL_INFORMATION, known.chain(own(SectionKind::Indication)).collect());
    let mut procedure = procedure_description(source, provenance);
    procedure.extend(texts(PROCEDURE_DESCRIPTION, own(SectionKind::Technique)));
    let sections = [
        (CLINICAL_INFORMATION, clinical),
        (CURRENT_PROCEDURE_DESCRIPTIONS, procedure),
        (PREVIOUS_FINDINGS, texts(PREVIOUS_FINDING, own(SectionKind::Comparison))),
        (FINDINGS, findings(draft, source)),
        (IMPRESSIONS, texts(IMPRESSION, text::impression_lines(draft))),
        (RECOMMENDATIONS, texts(RECOMMENDATION, own(SectionKind::Recommendations))),
    ];
    items.extend(sections.into_iter().filter(|(_, it)| !it.is_empty()).map(|(name, it)| container(name, it)));
    items
}

fn text(name: Code, value: impl Into<String>) -> Item {
    Item::contains(name, content::text(&value.into()))
}

/// What was examined, in the study's own words, and how the draft was made.
fn procedure_description(source: &Source<'_>, provenance: &Provenance) -> Vec<Item> {
    let header = &source.representative.header;
    let study = header.raw(tags::STUDY_DESCRIPTION).unwrap_or_default();
    let cleaned = header.character_set().clean(study, false);
    let mut items = Vec::new();
    if !cleaned.text.trim().is_empty() && cleaned.meaning != Meaning::None {
        items.push(Item::contains(PROCEDURE_DESCRIPTION, ItemValue::Text(TextValue::Copied(study.to_vec()))));
    }
    let inputs: BTreeSet<&Uid> = source.evidence.iter().map(|item| &item.sop_instance_uid).collect();
    let mut lines = text::provenance_lines(provenance, Some(inputs.len()));
    let notes = copy_notes(source.representative);
    lines.extend(notes.into_iter().map(|note| format!("Of the images' own attributes, {note}")));
    items.extend(lines.into_iter().map(|line| text(PROCEDURE_DESCRIPTION, line)));
    items
}

fn findings(draft: &Draft, source: &Source<'_>) -> Vec<Item> {
    let header = &source.representative.header;
    let illustrated = |line: String| {
        let mut item = text(FINDING, line);
        if header.has_pixel_data() {
            item.children.push(
                Item::contains(
                    BEST_ILLUSTRATION,
                    ItemValue::Image {
                        class: header.sop_class_uid.clone(),
                        instance: header.sop_instance_uid.clone(),
                        frame: None,
                    },
                )
                .inferred(),
            );
        }
        item
    };
    text::finding_lines(draft).into_iter().map(illustrated).collect()
}
