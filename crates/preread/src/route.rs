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
        let numbers = NUMBERS.iter().map(|(name, tag)| (*name, header.integer(*tag).unwrap_or(0))).collect();
        Self { text, numbers }
    }

    /// An image that has nothing: what a rule is tried on before it is accepted.
    fn none() -> Self {
        let text = TEXT.iter().map(|(name, _)| *name).chain(["sop_class", "source"]);
        Self {
            text: text.map(|name| (name, String::new())).collect(),
            numbers: NUMBERS.iter().map(|(name, _)| (*name, 0)).collect(),
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
        let program =
            Program::compile(when).map_err(|error| anyhow!("rule \"{name}\": `when` cannot be read: {error}"))?;
        let settings = Settings::default();
        let rule =
            Self { name, written: when.to_owned(), when: program, model, destinations, mode, priority, settings };
        rule.matches(&Facts::none())?;
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
            Ok(_) => bail!("rule \"{}\": `when` answers something other than true or false", self.name),
            Err(error) => bail!("rule \"{}\": `when` cannot be evaluated: {error}", self.name),
        }
    }
}
