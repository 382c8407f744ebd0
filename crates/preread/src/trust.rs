//! What the sentences of a rule's model are held against: its calibration and thresholds, read when preread starts.

use std::{collections::HashMap, fs, io};

use anyhow::{Context, Result, anyhow, bail};
use infer::{Bundle, Layout};
use report::{Calibration, Concept, Policy, Thresholds};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{config::EvidenceSection, models::Models, pipeline::hex, route::Rule};

/// The file of a model folder that `preread model calibrate` writes, where the manifest does not name another one.
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
    let calibration = bundle.map(calibration).transpose()?.flatten();
    let thresholds = bundle.map(thresholds).transpose()?.unwrap_or_default();
    let settings_digest = settings_digest(rule, second, calibration.as_ref(), &thresholds)?;
    Ok(Trust { calibration, thresholds, settings_digest })
}

/// The thresholds of a manifest, by the ids of our vocabulary.
fn thresholds(bundle: &Bundle) -> Result<Thresholds> {
    let stated = &bundle.manifest.thresholds;
    if let Some(unknown) = stated.findings.keys().find(|id| Concept::named(id).is_none()) {
        bail!(
            "{}: [thresholds] findings names \"{unknown}\", which no report states; `preread report schema` lists the concepts",
            bundle.folder.join("model.toml").display()
        );
    }
    let default = Thresholds::default();
    let probability = stated.probability.unwrap_or(default.probability);
    Ok(Thresholds { probability, findings: stated.findings.clone(), ..default })
}

/// The calibration of a model folder: what the manifest names, else the usual file where there is one.
fn calibration(bundle: &Bundle) -> Result<Option<Calibration>> {
    let named = bundle.manifest.calibration.as_deref();
    let path = bundle.folder.join(named.unwrap_or(CALIBRATION));
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => return Ok(None),
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
    use std::path::Path;

    use super::*;
    use crate::config::{Mode, Priority, Settings};

    /// A model folder with this manifest, and other files.
    fn model(manifest: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Bundle) {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/phantom-cxr");
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(own).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            fs::copy(&entry, folder.path().join(entry.file_name().unwrap())).unwrap();
        }
        for (name, text) in [("model.toml", manifest)].iter().chain(files) {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let bundle = Bundle::open(folder.path()).unwrap();
        (folder, bundle)
    }

    #[test]
    fn a_folder_s_calibration_is_taken_or_refused() {
        let check = |manifest: &str, files: &[(&str, &str)], expected: Result<Option<Calibration>, &[&str]>| {
            let (_folder, bundle) = model(manifest, files);
            match (calibration(&bundle), expected) {
                (Ok(found), Ok(due)) => assert_eq!(found, due),
                (Err(error), Err(due)) => {
                    let error = format!("{error:#}");
                    assert!(due.iter().all(|part| error.contains(part)), "{error}");
                }
                (found, due) => panic!("{found:?}, due {due:?}"),
            }
        };
        let good = r#"{"method": "temperature", "temperature": 1.5}"#;
        let temperature = || Ok(Some(Calibration::Temperature { temperature: 1.5 }));
        let again = "preread model calibrate";
        check("", &[], Ok(None));
        check("", &[(CALIBRATION, good)], temperature());
        check("calibration = 'other.json'", &[("other.json", good)], temperature());
        // What is named is wanted.
        check("calibration = 'other.json'", &[(CALIBRATION, good)], Err(&["other.json"]));
        check("", &[(CALIBRATION, &good.replace("1.5", "-1.5"))], Err(&[CALIBRATION, "no rising curve", again]));
        check("", &[(CALIBRATION, r#"{"method": "platt"}"#)], Err(&[CALIBRATION, "platt", again]));
        check("", &[(CALIBRATION, "")], Err(&[CALIBRATION, "EOF", again]));
    }

    #[test]
    fn a_manifest_s_thresholds_are_by_our_own_names() {
        let (_folder, bundle) = model("[thresholds]\nprobability = 0.75\nfindings = { nodule = 0.25 }", &[]);
        let found = thresholds(&bundle).unwrap();
        assert_eq!((found.probability, found.findings.get("nodule")), (0.75, Some(&0.25)));
        let (_folder, bundle) = model("", &[]);
        assert_eq!(thresholds(&bundle).unwrap(), Thresholds::default());
        let (_folder, bundle) = model("[thresholds]\nfindings = { noodle = 0.25 }", &[]);
        let refusal = thresholds(&bundle).unwrap_err().to_string();
        assert!(["model.toml", "\"noodle\"", "report schema"].iter().all(|part| refusal.contains(part)), "{refusal}");
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
