//! Report templates: what a report of a procedure has to say, as data, and a report measured against it.

mod mrrt;

use serde::{Deserialize, Serialize};

use crate::{
    codes::Code,
    lexicon::Language,
    structure::{SectionKind, Sentence, Structure, Understood, read_sentence},
    vocabulary::{Concept, Site},
};

pub use mrrt::read_mrrt;

/// A template cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It is no JSON of a template; with what is wrong and where.
    #[error("not a template: {0}")]
    Json(#[from] serde_json::Error),
    /// It names what the closed tables do not have.
    #[error("item \"{item}\" of the template names \"{name}\", which the vocabulary does not have")]
    Unknown {
        /// The item's id.
        item: String,
        /// What it names.
        name: String,
    },
    /// It has nothing to fill in.
    #[error("the template has no items")]
    Empty,
    /// It is too large to be one.
    #[error("the template has {0} bytes; no template has more than {LARGEST}")]
    TooLarge(usize),
}

/// The largest template, in bytes.
const LARGEST: usize = 1 << 20;

/// A code as a template gives it. It is shown with the template, and never becomes the code of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateCode {
    /// Code Value (0008,0100).
    pub value: String,
    /// Coding Scheme Designator (0008,0102).
    pub scheme: String,
    /// Code Meaning (0008,0104).
    pub meaning: String,
}

/// What a report has to say about one thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// Its id, unique in the template.
    pub id: String,
    /// What a person calls it.
    pub label: String,
    /// The section it belongs into.
    pub section: SectionKind,
    /// Whether a report without it is incomplete.
    #[serde(default)]
    pub required: bool,
    /// Statements about one of these concepts are about it.
    #[serde(default)]
    pub concepts: Vec<String>,
    /// Statements about one of these places are about it.
    #[serde(default)]
    pub sites: Vec<String>,
    /// Categories of one of these schemes are about it.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Only statements with a measurement are about it.
    #[serde(default)]
    pub measured: bool,
    /// Sentences that recommend something are about it.
    #[serde(default)]
    pub recommends: bool,
}

/// What a report of a procedure has to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Its id.
    pub id: String,
    /// What a person calls it.
    pub title: String,
    /// The procedure, or the kind of report.
    #[serde(default)]
    pub procedure: Option<TemplateCode>,
    /// Modalities (0008,0060) that it is for.
    #[serde(default)]
    pub modalities: Vec<String>,
    /// Body parts (0018,0015) that it is for.
    #[serde(default)]
    pub body_parts: Vec<String>,
    /// What has to be said, in order.
    pub items: Vec<Item>,
}

const OWN: &[(&str, &str)] = &[
    ("chest-radiograph", include_str!("../../templates/chest-radiograph.json")),
    ("chest-ct", include_str!("../../templates/chest-ct.json")),
    ("brain-mr", include_str!("../../templates/brain-mr.json")),
    ("abdominal-ultrasound", include_str!("../../templates/abdominal-ultrasound.json")),
    ("mammography", include_str!("../../templates/mammography.json")),
];

impl Template {
    /// The ids of the templates that come with this crate.
    pub fn own() -> impl Iterator<Item = &'static str> {
        OWN.iter().map(|(id, _)| *id)
    }

    /// A template that comes with this crate.
    pub fn named(id: &str) -> Option<Self> {
        let (_, json) = OWN.iter().find(|(own, _)| *own == id)?;
        Self::read(json).ok()
    }

    /// Reads a template: JSON as this crate writes it, or an MRRT template in HTML (IHE RAD TF-3 8.1).
    pub fn read(text: &str) -> Result<Self, TemplateError> {
        if text.len() > LARGEST {
            return Err(TemplateError::TooLarge(text.len()));
        }
        let template: Self =
            if text.trim_start().starts_with('<') { read_mrrt(text)? } else { serde_json::from_str(text)? };
        if template.items.is_empty() {
            return Err(TemplateError::Empty);
        }
        for item in &template.items {
            let unknown = |name: &&String| Concept::named(name).is_none();
            let nowhere = |name: &&String| Site::named(name).is_none();
            if let Some(name) = item.concepts.iter().find(unknown).or_else(|| item.sites.iter().find(nowhere)) {
                return Err(TemplateError::Unknown { item: item.id.clone(), name: name.clone() });
            }
        }
        Ok(template)
    }
}

/// What a report says about an item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Filled {
    /// The item's id.
    pub item: String,
    /// Its label.
    pub label: String,
    /// Whether the report is incomplete without it.
    pub required: bool,
    /// The numbers of the sentences that are about it, counted from 0.
    pub sentences: Vec<usize>,
}

/// A report, structured by a template.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Structured {
    /// The template's id.
    pub template: String,
    /// Its title.
    pub title: String,
    /// The procedure.
    pub procedure: Option<TemplateCode>,
    /// Each item, in the template's order.
    pub items: Vec<Filled>,
    /// Labels of the required items of which the report says nothing.
    pub missing: Vec<String>,
    /// The numbers of the sentences that are about no item.
    pub elsewhere: Vec<usize>,
    /// The report.
    pub structure: Structure,
    /// The codes of every statement, by sentence.
    pub codes: Vec<Coded>,
}

/// A statement's codes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Coded {
    /// The sentence's number.
    pub sentence: usize,
    /// What.
    pub concept: Concept,
    /// Its code; nothing where no code could be verified.
    pub code: Option<Code>,
    /// The places' codes.
    pub sites: Vec<Code>,
}

/// Structures an existing report: which sentence is about which item, and which required items are missing.
pub fn structure(text: &str, template: &Template, language: Language) -> Structured {
    let structure = Structure::read(text, language);
    let is_about = |item: &Item, sentence: &Sentence| about(item, sentence);
    let filled = |item: &Item| Filled {
        item: item.id.clone(),
        label: item.label.clone(),
        required: item.required,
        sentences: (0..structure.sentences.len()).filter(|at| is_about(item, &structure.sentences[*at])).collect(),
    };
    let items: Vec<Filled> = template.items.iter().map(filled).collect();
    let missing = items.iter().filter(|it| it.required && it.sentences.is_empty()).map(|it| it.label.clone()).collect();
    let elsewhere =
        (0..structure.sentences.len()).filter(|at| !items.iter().any(|item| item.sentences.contains(at))).collect();
    let coded = |(sentence, statement): (usize, &crate::Statement)| Coded {
        sentence,
        concept: statement.concept,
        code: statement.concept.code(),
        sites: statement.sites.iter().filter_map(|site| site.code()).collect(),
    };
    let statements = structure.sentences.iter().enumerate();
    let statements = statements.flat_map(|(at, sentence)| sentence.statements.iter().map(move |it| (at, it)));
    let codes = statements.map(coded).collect();
    Structured {
        template: template.id.clone(),
        title: template.title.clone(),
        procedure: template.procedure.clone(),
        items,
        missing,
        elsewhere,
        codes,
        structure,
    }
}

fn about(item: &Item, sentence: &Sentence) -> bool {
    let section = match item.section {
        SectionKind::Findings | SectionKind::Organ => {
            matches!(sentence.section, SectionKind::Findings | SectionKind::Organ)
        }
        // A recommendation often stands in the impression, and a category in the findings.
        SectionKind::Recommendations => sentence.section == item.section || sentence.recommendation.is_some(),
        SectionKind::Impression if !item.categories.is_empty() => true,
        section => sentence.section == section,
    };
    if !section {
        return false;
    }
    let selective = !(item.concepts.is_empty() && item.sites.is_empty() && item.categories.is_empty());
    let statement = sentence.statements.iter().any(|statement| {
        let concept = item.concepts.iter().any(|id| id == statement.concept.id());
        let site = statement.sites.iter().any(|site| item.sites.iter().any(|id| id == site.id()));
        (concept || site) && (!item.measured || !statement.measurements.is_empty())
    });
    let category = sentence.categories.iter().any(|it| item.categories.iter().any(|scheme| scheme == it.scheme));
    let recommends = item.recommends && sentence.recommendation.is_some();
    !selective && (!item.recommends || recommends || sentence.section == item.section) || statement || category
}

/// The places and concepts that a label or an option speaks of.
fn spoken_of(words: &str, language: Language) -> (Vec<String>, Vec<String>) {
    let reading = read_sentence(words, language);
    let concepts = reading.statements.iter().map(|it| it.concept.id().to_owned());
    let sites = reading.marks.sites.iter().map(|(site, _)| site.id().to_owned());
    (concepts.filter(|id| id != "normal_appearance").collect(), sites.collect())
}

impl Structured {
    /// The structured report for a terminal: the template's items in order, what is said about each, with its codes.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for item in &self.items {
            text += &format!("\n{}{}\n", item.label, if item.required { " (required)" } else { "" });
            if item.sentences.is_empty() {
                text += "  -\n";
            }
            for number in &item.sentences {
                text += &self.lines(*number);
            }
        }
        if !self.elsewhere.is_empty() {
            text += "\nOther\n";
            self.elsewhere.iter().for_each(|number| text += &self.lines(*number));
        }
        if !self.missing.is_empty() {
            text += &format!("\nMissing: {}\n", self.missing.join(", "));
        }
        text
    }

    fn lines(&self, number: usize) -> String {
        let Some(sentence) = self.structure.sentences.get(number) else { return String::new() };
        let mark = if sentence.understood == Understood::Part { "  [understood in part]" } else { "" };
        let mut text = format!("  {}{mark}\n", sentence.text);
        for statement in &sentence.statements {
            let code = statement.concept.code().map(|it| format!(" ({}, {}, \"{}\")", it.value, it.scheme, it.meaning));
            let lexicon = self.structure.language.lexicon();
            let mut words = vec![format!("{}{}", lexicon.name(statement.concept), code.unwrap_or_default())];
            words.push(format!("{:?}", statement.presence).to_lowercase());
            words.extend(
                (statement.certainty != crate::Certainty::Certain)
                    .then(|| format!("{:?}", statement.certainty).to_lowercase()),
            );
            words.extend(statement.side.map(|side| format!("{side:?}").to_lowercase()));
            words.extend(statement.sites.iter().map(|site| lexicon.site_name(*site).to_owned()));
            words.extend(statement.measurements.iter().map(crate::Measurement::text));
            text += &format!("    = {}\n", words.join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests;
