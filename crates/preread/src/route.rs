//! Rules: which images of a study go to which model, and where its report goes.

use std::fmt;

use anyhow::{Result, anyhow, bail};
use cel::{Context, Program, Value};
use dataset::{Header, tags};

use crate::config::{Mode, Priority, Settings, Unstated};

/// A `[[rule]]`, compiled.
pub(crate) struct Rule {
    pub(crate) name: String,
    /// `when` as it was written.
    pub(crate) written: String,
    when: Program,
    pub(crate) model: String,
    pub(crate) destinations: Vec<String>,
    pub(crate) mode: Mode,
    pub(crate) priority: Priority,
    /// What is asked and done besides.
    pub(crate) settings: Settings,
}

/// What a rule sees of an image.
#[derive(Default)]
pub(crate) struct Facts {
    text: Vec<(&'static str, String)>,
    numbers: Vec<(&'static str, i64)>,
}

/// The text attributes that a rule can name.
const TEXT: &[(&str, dataset::Tag)] = &[
    ("modality", tags::MODALITY),
    ("body_part", tags::BODY_PART_EXAMINED),
    ("view", tags::VIEW_POSITION),
    ("laterality", tags::LATERALITY),
    ("manufacturer", tags::MANUFACTURER),
    ("station", tags::STATION_NAME),
    ("study_description", tags::STUDY_DESCRIPTION),
    ("series_description", tags::SERIES_DESCRIPTION),
];

/// The numbers that a rule can name.
const NUMBERS: &[(&str, dataset::Tag)] =
    &[("rows", tags::ROWS), ("columns", tags::COLUMNS), ("frames", tags::NUMBER_OF_FRAMES)];

impl Facts {
    /// The facts of an image that came from `source`.
    pub(crate) fn of(header: &Header, source: &str) -> Self {
        let mut text: Vec<_> = TEXT.iter().map(|(name, tag)| (*name, header.text(*tag).unwrap_or_default())).collect();
        text.push(("sop_class", header.sop_class_uid.to_string()));
        text.push(("source", source.to_owned()));
        // An image without Number of Frames has one (PS3.3 C.7.6.6).
        let absent = |name: &str| if name == "frames" { 1 } else { 0 };
        let number = |name, tag| header.integer(tag).unwrap_or_else(|| absent(name));
        let numbers = NUMBERS.iter().map(|(name, tag)| (*name, number(name, *tag))).collect();
        Self { text, numbers }
    }

    /// The names of everything that a rule can name.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        TEXT.iter().map(|(name, _)| *name).chain(["sop_class", "source"])
    }

    /// An image that has these texts, and nothing else but its size.
    pub(crate) fn made_up(texts: &[(&str, &str)], size: i64) -> Self {
        let text = |name: &str| texts.iter().find(|(it, _)| *it == name).map_or("", |(_, text)| *text).to_owned();
        let number = |name: &str| if name == "frames" { 1 } else { size };
        Self {
            text: Self::names().map(|name| (name, text(name))).collect(),
            numbers: NUMBERS.iter().map(|(name, _)| (*name, number(name))).collect(),
        }
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.text {
            write!(f, "{name} = {value:?}, ")?;
        }
        let numbers: Vec<String> = self.numbers.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        f.write_str(&numbers.join(", "))
    }
}

fn is_name(name: &str) -> bool {
    Facts::names().any(|it| it == name) || NUMBERS.iter().any(|(it, _)| *it == name)
}

/// The variables that an expression makes itself: `x` of `["CR", "DX"].exists(x, x == modality)`.
fn macro_variables(when: &str) -> Vec<&str> {
    let calls = [".exists(", ".exists_one(", ".all(", ".map(", ".filter("];
    let rests = calls.iter().flat_map(|call| when.match_indices(call).map(|(at, call)| &when[at + call.len()..]));
    rests.filter_map(|rest| rest.split_once(',').map(|(name, _)| name.trim())).collect()
}

/// What a rule can name, for a person.
fn all_names() -> String {
    Facts::names().chain(NUMBERS.iter().map(|(name, _)| *name)).collect::<Vec<_>>().join(", ")
}

/// What the compiler says, and what is meant where that is clear.
fn compile_error(when: &str, error: &str) -> String {
    let bytes = when.as_bytes();
    let mut quote = None;
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(begun), _) if begun == *byte => quote = None,
            (None, b'=') => {
                let beside = |at: Option<usize>| at.and_then(|at| bytes.get(at)).copied();
                let (before, after) = (beside(at.checked_sub(1)), beside(Some(at + 1)));
                if after != Some(b'=') && !matches!(before, Some(b'=' | b'!' | b'<' | b'>')) {
                    return format!("`=` compares nothing, write `==` (column {}): {error}", at + 1);
                }
            }
            _ => {}
        }
    }
    let words = [(" and ", "&&"), (" or ", "||"), (" AND ", "&&"), (" OR ", "||"), ("<>", "!=")];
    match words.iter().find(|(word, _)| when.contains(word)) {
        Some((word, meant)) => format!("write `{meant}` for `{}`: {error}", word.trim()),
        None => error.to_owned(),
    }
}

impl Rule {
    /// Compiles a rule with the default settings and tries it, so that a misspelt name is found at start and not at the first study.
    pub(crate) fn new(
        name: String,
        when: &str,
        model: String,
        destinations: Vec<String>,
        mode: Mode,
        priority: Priority,
    ) -> Result<Self> {
        let program = Program::compile(when).map_err(|error| {
            anyhow!("rule \"{name}\": `when` cannot be read: {}", compile_error(when, &error.to_string()))
        })?;
        // Each name is looked up, also those behind an `&&` that is not reached.
        let own = macro_variables(when);
        let known = |it: &&str| is_name(it) || own.contains(it) || it.starts_with('@');
        if let Some(unknown) = program.references().variables().into_iter().find(|it| !known(it)) {
            bail!(
                "rule \"{name}\": `when` speaks of `{unknown}`, which an image does not have; there are {}",
                all_names()
            );
        }
        let settings = Settings::default();
        let rule =
            Self { name, written: when.to_owned(), when: program, model, destinations, mode, priority, settings };
        rule.matches(&Facts::made_up(&[], 0))?;
        Ok(rule)
    }

    /// The same rule with these settings.
    pub(crate) fn with(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// A rule that takes every image that its model reads or could read, for a model named on the command line.
    pub(crate) fn everything(model: String) -> Result<Self> {
        let rule = Self::new("command line".to_owned(), "true", model, Vec::new(), Mode::Shadow, Priority::Routine)?;
        Ok(rule.with(Settings { unstated: Unstated::Read, ..Settings::default() }))
    }

    /// Whether it takes an image.
    pub(crate) fn matches(&self, facts: &Facts) -> Result<bool> {
        let mut context = Context::default();
        for (name, value) in &facts.text {
            context.add_variable_from_value(*name, value.as_str());
        }
        for (name, value) in &facts.numbers {
            context.add_variable_from_value(*name, *value);
        }
        match self.when.execute(&context) {
            Ok(Value::Bool(answer)) => Ok(answer),
            Ok(_) => bail!("rule \"{}\": `when` is something other than true or false", self.name),
            Err(error) => bail!("rule \"{}\": `when` cannot be evaluated: {error}", self.name),
        }
    }
}
