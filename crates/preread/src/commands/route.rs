use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use dataset::{Header, Limits};

use crate::{
    config::Mode,
    models::Models,
    output::shown,
    pipeline::scope::{Candidate, Chosen, Fit, Judge},
    route::Rule,
};

/// For each study what the daemon would do with its images: which are for reading, what each rule and its model say of each,
/// and which rule gets the study.
pub(crate) fn explain(paths: &[PathBuf], source: &str, config: &Path) -> Result<ExitCode> {
    let config = super::load_config(config)?;
    let (models, absent, broken) = Models::look(&config.models, &config.runtime);
    for text in absent.iter().chain(&broken) {
        eprintln!("warning: {text}");
    }
    if source.is_empty() && config.rules.iter().any(|rule| rule.written.contains("source")) {
        eprintln!("warning: a rule speaks of `source`, and here it is \"\"; say which peer with --source NAME");
    }
    let (studies, unreadable) = super::read::by_study(&super::files_of(paths)?);
    let limits = Limits::default();
    let judge = Judge { rules: &config.rules, models: &models, limits: &limits };
    for (uid, files) in &studies {
        println!("study {uid}");
        explain_study(&judge, files, source)?;
    }
    for (path, error) in &unreadable {
        println!("{}: not an instance: {error}", shown(path));
    }
    Ok(ExitCode::SUCCESS)
}

fn explain_study(judge: &Judge<'_>, files: &[PathBuf], source: &str) -> Result<()> {
    let opened = files.iter().map(|path| Ok((Header::open(path, judge.limits)?, path))).collect::<Result<Vec<_>>>()?;
    let headers: Vec<&Header> = opened.iter().map(|(header, _)| header).collect();
    let selection = pixel::choose(&headers);
    for (index, reason) in &selection.skipped {
        println!("  {}: not read: {reason}", shown(opened[*index].1));
    }
    let images: Vec<Candidate<'_>> =
        selection.chosen.iter().map(|index| Candidate::new(headers[*index], opened[*index].1, source)).collect();
    for (image, index) in images.iter().zip(&selection.chosen) {
        println!("  {}", shown(opened[*index].1));
        for rule in judge.rules {
            println!("    rule \"{}\" {}: {}", rule.name, said(judge, rule, image)?, rule.written);
        }
        println!("    with {}", image.facts());
    }
    let outcome = match judge.choose(&images)? {
        Chosen::Read(taken) => {
            let (rule, images) = (taken.rule, taken.images.len());
            format!("read: rule \"{}\", model \"{}\", {images} of {} images", rule.name, rule.model, files.len())
        }
        Chosen::Hold(rule, reason) => format!("held by rule \"{}\": {reason}", rule.name),
        Chosen::Skip(_) if images.is_empty() => "no image to read".to_owned(),
        Chosen::Skip(reason) => format!("skipped: {reason}"),
    };
    println!("  => {outcome}");
    Ok(())
}

/// What a rule does with an image, and why.
fn said(judge: &Judge<'_>, rule: &Rule, image: &Candidate<'_>) -> Result<String> {
    if rule.mode == Mode::Off {
        return Ok("is off".to_owned());
    }
    if !rule.matches(image.facts())? {
        return Ok("does not take it".to_owned());
    }
    Ok(match judge.fit(rule, image) {
        Fit::Reads => "takes it".to_owned(),
        Fit::Otherwise(why) => format!("takes it, but its model does not read it, because {why}"),
        Fit::Silent(keys) => format!("takes it, and it does not state its {}", keys.join(", ")),
    })
}
