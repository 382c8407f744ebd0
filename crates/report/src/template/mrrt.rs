//! MRRT templates (IHE RAD TF-3 8.1): HTML5 with a section for each part of the report and a form field for each item.

use html5gum::{Token, Tokenizer};

use super::{Item, Template, TemplateCode, TemplateError, spoken_of};
use crate::{lexicon::Language, structure::SectionKind};

/// The deepest nesting that is followed.
const DEPTH: usize = 32;

#[derive(Default)]
struct Reader {
    title: String,
    identifier: String,
    language: Language,
    sections: Vec<SectionKind>,
    /// Labels by the id of the field they are for.
    labels: Vec<(String, String)>,
    items: Vec<Item>,
    /// Words of the options of the field that is open.
    options: Vec<String>,
    capture: Option<Capture>,
    procedure: Option<TemplateCode>,
    in_template: bool,
}

enum Capture {
    Title(String),
    Label(String, String),
    Option(String),
    /// `<script type="text/xml">`: the coded content, as text of its own.
    Attributes(String),
}

/// Reads an MRRT template. What a field is about is read from its label and its options; a field is required when its completion
/// action is `PROHIBIT` or `ALERT`, or when it has the attribute `required`. Codes are taken for the procedure only.
pub fn read_mrrt(html: &str) -> Result<Template, TemplateError> {
    let mut reader = Reader::default();
    for token in Tokenizer::new(html) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let name = text_of(&tag.name);
                let attribute = |wanted: &str| {
                    let found = tag.attributes.iter().find(|(name, _)| name.as_slice() == wanted.as_bytes());
                    found.map(|(_, value)| text_of(value))
                };
                reader.start(&name, &attribute);
            }
            Token::EndTag(tag) => reader.end(&text_of(&tag.name)),
            Token::String(words) => reader.words(&text_of(&words)),
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    reader.template()
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Reader {
    fn start(&mut self, name: &str, attribute: &impl Fn(&str) -> Option<String>) {
        match name {
            "title" => self.capture = Some(Capture::Title(String::new())),
            "meta" => {
                let content = attribute("content").unwrap_or_default();
                match attribute("name").as_deref() {
                    Some("dcterms.identifier") => self.identifier = content,
                    Some("dcterms.title") if self.title.is_empty() => self.title = content,
                    Some("dcterms.language") => self.language = Language::of_tag(&content).unwrap_or_default(),
                    _ => {}
                }
            }
            "section" if self.sections.len() < DEPTH => {
                let named = attribute("data-section-name").or_else(|| attribute("id")).unwrap_or_default();
                let above = self.sections.last().copied();
                self.sections.push(section(&named, self.language).or(above).unwrap_or_default());
            }
            "label" => self.capture = Some(Capture::Label(attribute("for").unwrap_or_default(), String::new())),
            "option" => self.capture = Some(Capture::Option(String::new())),
            "input" | "select" | "textarea" => self.field(attribute),
            "script" if attribute("type").is_some_and(|it| it.contains("xml")) => {
                self.capture = Some(Capture::Attributes(String::new()));
            }
            "code" if self.in_template && self.procedure.is_none() => {
                let part = |name| attribute(name).unwrap_or_default();
                let scheme = if part("scheme") == "LOINC" { "LN".to_owned() } else { part("scheme") };
                self.procedure = Some(TemplateCode { value: part("value"), scheme, meaning: part("meaning") });
            }
            "term" => self.in_template = attribute("type").is_some_and(|it| it.eq_ignore_ascii_case("procedure")),
            _ => {}
        }
    }

    fn field(&mut self, attribute: &impl Fn(&str) -> Option<String>) {
        let kind = attribute("type").unwrap_or_default();
        if matches!(kind.as_str(), "hidden" | "button" | "submit" | "reset") {
            return;
        }
        // The choices of one question have one name and are one item.
        let id = match kind.as_str() {
            "radio" | "checkbox" => attribute("name").or_else(|| attribute("id")),
            _ => attribute("id").or_else(|| attribute("name")),
        }
        .unwrap_or_default();
        if let Some(value) = attribute("value").filter(|_| matches!(kind.as_str(), "radio" | "checkbox")) {
            self.options.push(value);
        }
        if id.is_empty() || self.items.iter().any(|item| item.id == id) {
            self.close_field();
            return;
        }
        let action = attribute("data-field-completion-action").unwrap_or_default();
        let required = attribute("required").is_some() || matches!(action.as_str(), "PROHIBIT" | "ALERT");
        let field = attribute("data-field-type").unwrap_or_default();
        let measured = kind == "number" || field == "NUMBER";
        self.items.push(Item {
            label: attribute("title").filter(|title| !title.is_empty()).unwrap_or_default(),
            id,
            section: self.sections.last().copied().unwrap_or_default(),
            required,
            concepts: Vec::new(),
            sites: Vec::new(),
            categories: Vec::new(),
            measured,
            recommends: false,
        });
        self.close_field();
    }

    /// What the options that were read so far say of the last item.
    fn close_field(&mut self) {
        let language = self.language;
        if let Some(item) = self.items.last_mut() {
            for option in self.options.drain(..) {
                let (concepts, sites) = spoken_of(&option, language);
                item.concepts.extend(concepts);
                item.sites.extend(sites);
            }
        }
    }

    fn end(&mut self, name: &str) {
        match (name, self.capture.take()) {
            ("section", capture) => {
                self.sections.pop();
                self.capture = capture;
            }
            ("title", Some(Capture::Title(words))) => self.title = words.trim().to_owned(),
            ("label", Some(Capture::Label(id, words))) => {
                let words = words.trim().trim_end_matches(':').trim().to_owned();
                self.labels.push((id, words));
            }
            ("option", Some(Capture::Option(words))) => {
                self.options.push(words);
                self.close_field();
            }
            ("script", Some(Capture::Attributes(xml))) => self.attributes(&xml),
            (_, capture) => self.capture = capture,
        }
    }

    fn words(&mut self, words: &str) {
        match &mut self.capture {
            Some(Capture::Title(all) | Capture::Label(_, all) | Capture::Option(all) | Capture::Attributes(all)) => {
                *all += words
            }
            None => {}
        }
    }

    /// The coded content: elements and attributes that a tokenizer of HTML reads as well.
    fn attributes(&mut self, xml: &str) {
        for token in Tokenizer::new(xml) {
            let Ok(token) = token;
            if let Token::StartTag(tag) = token {
                let name = text_of(&tag.name);
                let attribute = |wanted: &str| {
                    let found = tag.attributes.iter().find(|(name, _)| name.as_slice() == wanted.as_bytes());
                    found.map(|(_, value)| text_of(value))
                };
                if matches!(name.as_str(), "term" | "code") {
                    self.start(&name, &attribute);
                }
            }
        }
    }

    fn template(mut self) -> Result<Template, TemplateError> {
        let language = self.language;
        for item in &mut self.items {
            let label = self.labels.iter().find(|(id, _)| *id == item.id).map(|(_, words)| words.clone());
            if let Some(label) = label.filter(|label| !label.is_empty()) {
                item.label = label;
            }
            if item.label.is_empty() {
                item.label.clone_from(&item.id);
            }
            let (concepts, sites) = spoken_of(&item.label, language);
            item.concepts.extend(concepts);
            item.sites.extend(sites);
            item.concepts.sort();
            item.concepts.dedup();
            item.sites.sort();
            item.sites.dedup();
        }
        let id = if self.identifier.is_empty() { "imported".to_owned() } else { self.identifier };
        let template = Template {
            id,
            title: self.title,
            procedure: self.procedure,
            modalities: Vec::new(),
            body_parts: Vec::new(),
            items: self.items,
        };
        if template.items.is_empty() { Err(TemplateError::Empty) } else { Ok(template) }
    }
}

/// The section of a name such as `Clinical Information` or `procedureInformation`.
fn section(name: &str, language: Language) -> Option<SectionKind> {
    let mut words = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !words.is_empty() && !words.ends_with(' ') {
            words.push(' ');
        }
        words.extend(character.to_lowercase());
    }
    let words = words.replace('_', " ");
    let words = words.trim();
    // The names of RadReport's sections that are no headings of a report.
    match words {
        "procedure information" | "procedure description" => return Some(SectionKind::Technique),
        "comparison study" => return Some(SectionKind::Comparison),
        _ => {}
    }
    let kind = language.lexicon().heading(words).or_else(|| Language::ENGLISH.lexicon().heading(words))?;
    Some(if kind == SectionKind::Organ { SectionKind::Findings } else { kind })
}
