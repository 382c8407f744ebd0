//! What the sentences of a rule's model are held against: its calibration and thresholds, read when preread starts.

use std::{collections::HashMap, fs, io, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use infer::{Bundle, Layout};
use report::{Calibration, Policy, Thresholds};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{config::EvidenceSection, models::Models, pipeline::hex, route::Rule};

/// The file of a model folder that `preread model calibrate` writes.
const CALIBRATION: &str = "calibration.json";

/// Of one rule.
#[derive(Clone, Default)]
pub(crate) struct Trust {
    /// Nothing where the model has none: its probabilities are called uncalibrated, and held against no threshold.
    pub(crate) calibration: Option<Calibration>,
    pub(crate) thresholds: Thresholds,
    /// The digest of everything that the rule and its models' folders set otherwise than by default, besides the model
    /// itself; nothing when they set nothing.
    pub(crate) settings_digest: Option<String>,
}

/// Of every rule.
#[derive(Default)]
pub(crate) struct Trusts(HashMap<String, Trust>);

impl Trusts {
    /// Reads what the folders of the rules' models have. Errors name the file, or the model that scores no labels.
    pub(crate) fn of(rules: &[Rule], models: &Models) -> Result<Self> {
        let trust = |rule: &Rule| Ok((rule.name.clone(), of_rule(rule, models)?));
        Ok(Self(rules.iter().map(trust).collect::<Result<_>>()?))
    }

    /// What a test says of one rule.
    #[cfg(test)]
    pub(crate) fn scripted(rule: &str, trust: Trust) -> Self {
        Self(HashMap::from([(rule.to_owned(), trust)]))
    }

    /// Of a rule.
    pub(crate) fn get(&self, rule: &Rule) -> Trust {
        self.0.get(&rule.name).cloned().unwrap_or_default()
    }
}

fn of_rule(rule: &Rule, models: &Models) -> Result<Trust> {
    let second = rule.settings.second_model.as_ref().and_then(|name| models.bundle(name));
    if let Some(bundle) = second.filter(|bundle| bundle.layout != Layout::ZeroShot) {
        bail!(
            "rule \"{}\": the second model, {}, writes text; one that scores labels against images is wanted (CLIP, SigLIP)",
            rule.name,
            bundle.name()
        );
    }
    let bundle = models.bundle(&rule.model);
    let calibration = bundle.map(|bundle| calibration(&bundle.folder)).transpose()?.flatten();
    let thresholds = Thresholds::default();
    let settings_digest = settings_digest(rule, second, calibration.as_ref(), &thresholds)?;
    Ok(Trust { calibration, thresholds, settings_digest })
}

/// The calibration of a model folder, where there is one.
fn calibration(folder: &Path) -> Result<Option<Calibration>> {
    let path = folder.join(CALIBRATION);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let again = "make it again with `preread model calibrate`";
    let read: Calibration = serde_json::from_str(&text).with_context(|| format!("{}: {again}", path.display()))?;
    if !read.is_sound() {
        return Err(anyhow!("{}: it is no rising curve of probabilities; {again}", path.display()));
    }
    Ok(Some(read))
}

fn settings_digest(
    rule: &Rule,
    second: Option<&Bundle>,
    calibration: Option<&Calibration>,
    thresholds: &Thresholds,
) -> Result<Option<String>> {
    let settings = &rule.settings;
    let mut set: Vec<(&str, Value)> = Vec::new();
    if settings.checks != Policy::default() {
        set.push(("checks", json!(settings.checks)));
    }
    if settings.evidence != EvidenceSection::default() {
        set.push(("evidence", json!(settings.evidence)));
    }
    set.extend(second.map(|bundle| ("second_model", json!(bundle.digest))));
    set.extend(calibration.map(|calibration| ("calibration", json!(calibration))));
    if *thresholds != Thresholds::default() {
        set.push(("thresholds", json!(thresholds)));
    }
    if set.is_empty() {
        return Ok(None);
    }
    Ok(Some(hex(Sha256::digest(serde_json::to_vec(&set)?))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Mode, Priority, Settings};

    #[test]
    fn a_folder_s_calibration_is_taken_or_refused() {
        let check = |calibration: Option<&str>, expected: Result<Option<Calibration>, &str>| {
            let folder = tempfile::tempdir().unwrap();
            if let Some(text) = calibration {
                fs::write(folder.path().join(CALIBRATION), text).unwrap();
            }
            match (super::calibration(folder.path()), expected) {
                (Ok(found), Ok(due)) => assert_eq!(found, due),
                (Err(error), Err(due)) => {
                    let error = format!("{error:#}");
                    assert!(error.contains(CALIBRATION) && error.contains(due), "{error}");
                    assert!(error.contains("preread model calibrate"), "{error}");
                }
                (found, due) => panic!("{found:?}, due {due:?}"),
            }
        };
        check(None, Ok(None));
        let temperature = Calibration::Temperature { temperature: 1.5 };
        check(Some(r#"{"method": "temperature", "temperature": 1.5}"#), Ok(Some(temperature)));
        check(Some(r#"{"method": "temperature", "temperature": -1.5}"#), Err("no rising curve"));
        check(Some(r#"{"method": "platt"}"#), Err("platt"));
        check(Some(""), Err("EOF"));
    }

    #[test]
    fn only_what_is_set_changes_the_digest() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/phantom-cxr");
        let models = Models::scripted("m", &folder, infer::Scripted::saying([""])).unwrap();
        let of = |settings: Settings| {
            let rule = Rule::new("a".to_owned(), "true", "m".to_owned(), Vec::new(), Mode::Draft, Priority::Routine);
            let rules = [rule.unwrap().with(settings)];
            Trusts::of(&rules, &models).map(|trusts| trusts.get(&rules[0]).settings_digest)
        };
        assert_eq!(of(Settings::default()).unwrap(), None);
        let evidence = |samples| EvidenceSection { samples, ..EvidenceSection::default() };
        let drawn = |samples| of(Settings { evidence: evidence(samples), ..Settings::default() }).unwrap();
        assert!(drawn(3).is_some() && drawn(3) == drawn(3) && drawn(3) != drawn(4));
        let checks = Policy::with(&[("prior".to_owned(), report::Action::Hold)].into()).unwrap();
        let held = of(Settings { checks, ..Settings::default() }).unwrap();
        assert!(held.is_some() && held != drawn(3));
        // A model that writes text scores no labels.
        let second = of(Settings { second_model: Some("m".to_owned()), ..Settings::default() });
        let refusal = second.unwrap_err().to_string();
        assert!(refusal.contains("rule \"a\"") && refusal.contains("scores labels"), "{refusal}");
    }
}
