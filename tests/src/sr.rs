//! Structured reports as a reader that knows nothing of `preread` sees them (PS3.3 C.17.3).

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::{Context, Result};
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::instance::Instance;

/// One content item with what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Code Value of the concept name; empty where it has none.
    pub code: String,
    /// Code Meaning of the concept name.
    pub meaning: String,
    /// Value Type: CONTAINER, TEXT, CODE, …
    pub value_type: String,
    /// The value as text; empty for containers and references.
    pub value: String,
    /// The items below.
    pub children: Vec<Item>,
}

/// A report: what its header says of its state, and its content tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Series Description (0008,103E).
    pub series_description: String,
    /// Completion Flag (0040,A491).
    pub completion_flag: String,
    /// Verification Flag (0040,A493).
    pub verification_flag: String,
    /// Preliminary Flag (0040,A496).
    pub preliminary_flag: String,
    /// Template Identifier (0040,DB00) of the root.
    pub template: String,
    /// The root of the content tree.
    pub root: Item,
}

impl Report {
    /// Reads an SR document.
    ///
    /// # Errors
    /// When it cannot be parsed or is no SR document.
    pub fn of(instance: &Instance) -> Result<Self> {
        let object = instance.header()?;
        let template = items(&object, tags::CONTENT_TEMPLATE_SEQUENCE).first().cloned();
        Ok(Self {
            series_description: text(&object, tags::SERIES_DESCRIPTION),
            completion_flag: text(&object, tags::COMPLETION_FLAG),
            verification_flag: text(&object, tags::VERIFICATION_FLAG),
            preliminary_flag: text(&object, tags::PRELIMINARY_FLAG),
            template: template.map(|item| text(&item, tags::TEMPLATE_IDENTIFIER)).unwrap_or_default(),
            root: Item::of(&object).context("no content tree")?,
        })
    }

    /// The values of all TEXT items with this concept name, in the order of the document.
    pub fn texts(&self, code: &str) -> Vec<String> {
        let mut found = Vec::new();
        self.root.walk(0, &mut |_, item| {
            if item.code == code && item.value_type == "TEXT" {
                found.push(item.value.clone());
            }
        });
        found
    }

    /// The findings: (121071, DCM, "Finding").
    pub fn findings(&self) -> Vec<String> {
        self.texts("121071")
    }

    /// The findings as bare sentences: without a probability in brackets, and none where it found nothing.
    pub fn sentences(&self) -> BTreeSet<String> {
        let bare = |finding: String| finding.split(" (").next().unwrap_or_default().trim().to_owned();
        self.findings().into_iter().map(bare).filter(|finding| finding != "No abnormality.").collect()
    }

    /// The whole report as a person would read it.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.root.walk(0, &mut |depth, item| {
            let indent = "  ".repeat(depth);
            let _ = match item.value_type.as_str() {
                "CONTAINER" => writeln!(out, "{indent}{}", item.meaning.to_uppercase()),
                "TEXT" => writeln!(out, "{indent}{}", item.value),
                "CODE" | "NUM" | "PNAME" | "DATE" | "TIME" | "DATETIME" => {
                    writeln!(out, "{indent}{}: {}", item.meaning, item.value)
                }
                _ => Ok(()),
            };
        });
        out
    }
}

impl Item {
    fn of(object: &InMemDicomObject) -> Option<Self> {
        let value_type = text(object, tags::VALUE_TYPE);
        if value_type.is_empty() {
            return None;
        }
        let name = items(object, tags::CONCEPT_NAME_CODE_SEQUENCE).into_iter().next();
        let name = |tag| name.as_ref().map(|code| text(code, tag)).unwrap_or_default();
        let value = match value_type.as_str() {
            "TEXT" => text(object, tags::TEXT_VALUE),
            "CODE" => code_meaning(object, tags::CONCEPT_CODE_SEQUENCE),
            "PNAME" => text(object, tags::PERSON_NAME),
            "DATE" => text(object, tags::DATE),
            "TIME" => text(object, tags::TIME),
            "DATETIME" => text(object, tags::DATE_TIME),
            "UIDREF" => text(object, tags::UID),
            "NUM" => {
                let measured = items(object, tags::MEASURED_VALUE_SEQUENCE).into_iter().next();
                measured.map(|value| text(&value, tags::NUMERIC_VALUE)).unwrap_or_default()
            }
            _ => String::new(),
        };
        let children = items(object, tags::CONTENT_SEQUENCE).iter().filter_map(Self::of).collect();
        Some(Self { code: name(tags::CODE_VALUE), meaning: name(tags::CODE_MEANING), value_type, value, children })
    }

    /// Visits this item and all below it, with their depth.
    pub fn walk(&self, depth: usize, visit: &mut impl FnMut(usize, &Item)) {
        visit(depth, self);
        for child in &self.children {
            child.walk(depth + 1, visit);
        }
    }
}

fn text(object: &InMemDicomObject, tag: Tag) -> String {
    let value = object.get(tag).and_then(|element| element.to_str().ok()).unwrap_or_default();
    value.trim_end_matches(['\0', ' ']).to_owned()
}

fn items(object: &InMemDicomObject, tag: Tag) -> Vec<InMemDicomObject> {
    object.get(tag).and_then(|element| element.items()).map(<[_]>::to_vec).unwrap_or_default()
}

fn code_meaning(object: &InMemDicomObject, tag: Tag) -> String {
    items(object, tag).first().map(|code| text(code, tags::CODE_MEANING)).unwrap_or_default()
}
