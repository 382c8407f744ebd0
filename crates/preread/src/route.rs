//! Rules: which images of a study go to which model, and where its report goes.

use std::fmt;

use anyhow::{Result, anyhow, bail};
use cel::{Context, Program, Value};
use dataset::{Header, tags};

use crate::config::{Mode, Priority, Settings};

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

    /// A rule that takes every image, for a model named on the command line.
    pub(crate) fn everything(model: String) -> Result<Self> {
        Self::new("command line".to_owned(), "true", model, Vec::new(), Mode::Shadow, Priority::Routine)
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

/// The first rule that takes at least one image, and which of them it takes.
pub(crate) fn choose<'a>(rules: &'a [Rule], images: &[Facts]) -> Result<Option<(&'a Rule, Vec<usize>)>> {
    for rule in rules {
        let mut taken = Vec::new();
        for (index, facts) in images.iter().enumerate() {
            if rule.matches(facts)? {
                taken.push(index);
            }
        }
        if !taken.is_empty() {
            return Ok(Some((rule, taken)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_takes_an_image_wins() {
        let rule = |name: &str, when: &str| {
            Rule::new(name.to_owned(), when, "m".to_owned(), Vec::new(), Mode::Draft, Priority::Routine).unwrap()
        };
        let rules = [
            rule("chest", r#"modality in ["CR", "DX"] && body_part == "CHEST""#),
            rule("large", "rows > 1000"),
            rule("bone", r#"series_description.contains("bone")"#),
        ];
        let image = |modality: &str, body_part: &str, rows: i64| {
            let mut facts = Facts::none();
            facts.text[0].1 = modality.to_owned();
            facts.text[1].1 = body_part.to_owned();
            facts.numbers[0].1 = rows;
            facts
        };
        let check = |images: &[Facts], expected: Option<(&str, &[usize])>| {
            let chosen = choose(&rules, images).unwrap();
            assert_eq!(chosen.as_ref().map(|(rule, taken)| (rule.name.as_str(), taken.as_slice())), expected);
        };
        check(&[image("CT", "CHEST", 512), image("DX", "CHEST", 512)], Some(("chest", &[1])));
        check(&[image("CR", "HAND", 2000), image("CR", "HAND", 3000)], Some(("large", &[0, 1])));
        check(&[image("US", "", 480)], None);
        check(&[], None);
    }
}
