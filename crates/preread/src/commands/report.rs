use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use report::{
    Calibration, Concept, Language, Measured, ModelText, Objection, Opinion, ReadingFacts, Sex, Side, StudyFacts,
    Thresholds, TokenEvidence,
    template::{self, Template},
};
use serde::{Deserialize, Serialize};

use crate::{output::shown, text_file};

/// Prints what our own check finds, a line each.
pub(crate) fn validate(files: &[PathBuf]) -> Result<ExitCode> {
    let mut all_good = true;
    for path in files {
        text_file::require_regular(path).with_context(|| shown(path))?;
        let file = fs::read(path).with_context(|| shown(path))?;
        let violations = report::validate(&file);
        all_good &= !report::must_hold(&violations);
        if violations.is_empty() {
            println!("{}: valid", shown(path));
        }
        for violation in violations {
            println!("{}: {} at {}: {}", shown(path), violation.rule, violation.at, violation.sentence);
        }
    }
    Ok(if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Structures a free-text report by a template.
pub(crate) fn structure(file: &Path, template: &str, language: &str, json: bool) -> Result<ExitCode> {
    let Some(language) = Language::of_tag(language) else {
        let known: Vec<&str> = Language::all().map(Language::tag).collect();
        return Err(super::usage(format!("no reports are read in \"{language}\"; there are {}", known.join(", "))));
    };
    let template = named_or_read(template)?;
    let text = text_file::read(file).with_context(|| shown(file))?;
    let structured = template::structure(&text, &template, language);
    if json {
        super::print_json(&structured)?;
    } else {
        print!("{}", structured.text());
    }
    Ok(ExitCode::SUCCESS)
}

fn named_or_read(template: &str) -> Result<Template> {
    if let Some(own) = Template::named(template) {
        return Ok(own);
    }
    let path = Path::new(template);
    if !path.is_file() {
        let own: Vec<&str> = Template::own().collect();
        return Err(super::usage(format!(
            "\"{template}\" is neither a file nor one of our templates: {}",
            own.join(", ")
        )));
    }
    let text = text_file::read(path).with_context(|| shown(path))?;
    Template::read(&text).with_context(|| shown(path))
}

/// The schema that a model's structured output is held to.
pub(crate) fn schema() -> Result<ExitCode> {
    super::print_json(&report::schema())?;
    Ok(ExitCode::SUCCESS)
}

/// A draft as it is given to be checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    text: String,
    #[serde(default)]
    study: GivenStudy,
}

/// What is known beside the text. What is left out is not known.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct GivenStudy {
    modalities: BTreeSet<String>,
    body_parts: BTreeSet<String>,
    views: BTreeSet<String>,
    laterality: Option<Side>,
    sex: Option<Sex>,
    age: Option<f64>,
    prior_given: bool,
    measured: Vec<Measured>,
    /// Ids of devices and operations that order or description speak of.
    supported: Vec<String>,
    /// Texts of header and pixels.
    texts: Vec<String>,
    /// The model was stopped before it ended its text.
    cut: bool,
    calibration: Option<Calibration>,
    thresholds: Thresholds,
    /// For bytes of the text, from and to: the probability of the token there.
    tokens: Vec<(usize, usize, f32)>,
    /// For bytes of the text, from and to: how much they depend on the image.
    image_dependence: Vec<(usize, usize, f64)>,
    second_model: Vec<Opinion>,
}

/// What speaks against a draft.
#[derive(Serialize)]
struct Checked {
    objections: Vec<Objection>,
    /// Why the policy of preread would hold it.
    held: Vec<String>,
}

/// Checks drafts; exit code 1 when one of them would be held.
pub(crate) fn check(file: &Path, json: bool) -> Result<ExitCode> {
    let text = text_file::read(file).with_context(|| shown(file))?;
    let given: Vec<Given> = if file.extension().is_some_and(|it| it == "jsonl") {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = |(number, line): (usize, &str)| {
            serde_json::from_str(line).with_context(|| format!("{}, line {}", shown(file), number + 1))
        };
        lines.map(read).collect::<Result<_>>()?
    } else {
        vec![Given { text, study: GivenStudy::default() }]
    };
    let checked = given.into_iter().map(check_one).collect::<Result<Vec<_>>>()?;
    let held = checked.iter().any(|draft| !draft.held.is_empty());
    if json {
        super::print_json(&checked)?;
    } else {
        for (number, draft) in (1..).zip(&checked) {
            for Objection { kind, sentence, explanation, .. } in &draft.objections {
                let sentence = sentence.as_ref().map(|it| format!(" \"{it}\"")).unwrap_or_default();
                println!("{number}: {}: {explanation}{sentence}", kind.name());
            }
        }
    }
    Ok(if held { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn check_one(Given { text, study }: Given) -> Result<Checked> {
    let mut supported = BTreeSet::new();
    for id in &study.supported {
        let Some(concept) = Concept::named(id) else { bail!("\"{id}\" is not in the vocabulary") };
        supported.insert(concept);
    }
    let token = |&(from, to, probability): &(usize, usize, f32)| TokenEvidence {
        range: from..to,
        logprob: probability.ln(),
        attention: None,
    };
    let tokens = study.tokens.iter().map(token).collect();
    let mut draft = report::parse(&ModelText { text: &text, tokens, grid: None });
    if let Some(calibration) = &study.calibration {
        draft.calibrate(calibration);
    }
    let facts = StudyFacts {
        side: study.laterality,
        modalities: study.modalities,
        body_parts: study.body_parts,
        views: study.views,
        sex: study.sex,
        age: study.age,
        prior_given: study.prior_given,
        measured: study.measured,
        supported,
        texts: study.texts,
        names: Vec::new(),
        reading: ReadingFacts {
            cut: study.cut,
            calibration: study.calibration,
            thresholds: study.thresholds,
            image_dependence: study.image_dependence.iter().map(|&(from, to, value)| (from..to, value)).collect(),
            second_model: study.second_model,
        },
    };
    let objections = report::check(&draft, &facts);
    let verdict = report::enforce(draft, &objections, &report::Policy::default());
    Ok(Checked { objections, held: verdict.held })
}
