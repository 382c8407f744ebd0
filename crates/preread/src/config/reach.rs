//! What rules take, tried out: which of them stand behind others, and which take what their models do not read.

use std::collections::BTreeSet;

use infer::Manifest;

use super::Mode;
use crate::route::{Facts, Rule};

/// Modalities of images that hospitals send.
const MODALITIES: &[&str] =
    &["CR", "DX", "MG", "CT", "MR", "US", "XA", "RF", "NM", "PT", "OT", "PX", "IO", "ES", "SM", "OP", "XC"];

/// Body parts that they are of, and none.
const BODY_PARTS: &[&str] = &[
    "", "CHEST", "ABDOMEN", "PELVIS", "HEAD", "SKULL", "NECK", "CSPINE", "TSPINE", "LSPINE", "SHOULDER", "HUMERUS",
    "ELBOW", "FOREARM", "WRIST", "HAND", "HIP", "FEMUR", "KNEE", "TIBIA", "ANKLE", "FOOT", "BREAST", "HEART", "RIB",
];

/// Images of every common modality and body part, and of what the rules themselves speak of.
fn tried(rules: &[Rule], sources: &[&str]) -> Vec<Facts> {
    let spoken: BTreeSet<String> = rules.iter().flat_map(|rule| literals(&rule.written)).collect();
    let spoken: Vec<&str> = spoken.iter().map(String::as_str).take(24).collect();
    let mut all = Vec::new();
    let sources: Vec<&str> = if sources.is_empty() { vec![""] } else { sources.to_vec() };
    let with = |known: &[&'static str]| known.iter().copied().chain(spoken.iter().copied()).collect::<Vec<_>>();
    for modality in with(MODALITIES) {
        for body_part in with(BODY_PARTS) {
            for source in &sources {
                all.push(Facts::made_up(&[("modality", modality), ("body_part", body_part), ("source", source)], 2000));
            }
        }
    }
    // The other values one at a time, beside what is most common.
    for name in Facts::names().filter(|name| !matches!(*name, "modality" | "body_part" | "source")) {
        for value in &spoken {
            for modality in ["CR", "DX", "CT"] {
                all.push(Facts::made_up(&[("modality", modality), ("body_part", "CHEST"), (name, value)], 2000));
            }
        }
    }
    for size in [0, 64, 512, 10_000] {
        for (modality, body_part) in [("CR", "CHEST"), ("CT", ""), ("DX", "KNEE"), ("US", "ABDOMEN")] {
            all.push(Facts::made_up(&[("modality", modality), ("body_part", body_part)], size));
        }
    }
    all
}

/// The texts in quotes of an expression.
fn literals(written: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), written);
    while let Some(begin) = rest.find(['"', '\'']) {
        let quote = &rest[begin..=begin];
        let Some(length) = rest[begin + 1..].find(quote) else { break };
        found.push(rest[begin + 1..begin + 1 + length].to_owned());
        rest = &rest[begin + length + 2..];
    }
    found
}

/// Rules that stand behind others which take everything that they take: the index of each, and a sentence.
pub(super) fn shadowed(rules: &[Rule], sources: &[&str]) -> Vec<(usize, String)> {
    let tried = tried(rules, sources);
    let takes = |rule: &Rule, facts: &Facts| rule.mode != Mode::Off && rule.matches(facts).unwrap_or(false);
    let mut found = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let own: Vec<&Facts> = tried.iter().filter(|facts| takes(rule, facts)).collect();
        let first = |facts: &Facts| rules[..index].iter().find(|earlier| takes(earlier, facts));
        let before: Option<Vec<&Rule>> = own.iter().map(|facts| first(facts)).collect();
        let Some(before) = before.filter(|before| !before.is_empty()) else { continue };
        let names: BTreeSet<String> = before.iter().map(|rule| format!("\"{}\"", rule.name)).collect();
        let names: Vec<String> = names.into_iter().collect();
        let same_model = before.iter().all(|earlier| earlier.model == rule.model);
        let left =
            if same_model { "it gets nothing" } else { "it gets only what the model of that one was not made for" };
        found.push((
            index,
            format!(
                "rule \"{}\" overlaps with {}, which takes the same images and stands before it, so that {left}; put the \
                 narrower rule first",
                rule.name,
                names.join(", ")
            ),
        ));
    }
    found
}

/// What a rule takes and its model was not made for, as a sentence.
pub(crate) fn wider(rule: &Rule, manifest: &Manifest) -> Option<String> {
    let (what, narrow) = takes_besides(rule, manifest)?;
    Some(format!(
        "rule \"{}\" is wider than its model \"{}\": it takes {what}, which the model was not made for, so that they are \
         skipped; narrow it by {narrow}",
        rule.name, rule.model
    ))
}

/// The same of its second model.
pub(crate) fn wider_than_second(rule: &Rule, manifest: &Manifest) -> Option<String> {
    let second = rule.settings.second_model.as_ref()?;
    let (what, narrow) = takes_besides(rule, manifest)?;
    Some(format!(
        "rule \"{}\" is wider than its second model \"{second}\": it takes {what}, which that model was not made for, so that \
         they have no second reading; narrow it by {narrow}",
        rule.name
    ))
}

/// What a rule takes beyond a manifest, and what would narrow it to that.
fn takes_besides(rule: &Rule, manifest: &Manifest) -> Option<(String, String)> {
    let takes = |modality: &str, body_part: &str| {
        let facts = [("modality", modality), ("body_part", body_part)];
        rule.mode != Mode::Off && rule.matches(&Facts::made_up(&facts, 2000)).unwrap_or(false)
    };
    let upper = |texts: &[String]| texts.iter().map(|text| text.trim().to_uppercase()).collect::<Vec<_>>();
    let (modalities, body_parts) = (upper(&manifest.modality), upper(&manifest.body_part));
    let stated = |texts: &[String], text: &str| texts.is_empty() || texts.iter().any(|it| it == text);
    let parts = || BODY_PARTS.iter().copied().chain(body_parts.iter().map(String::as_str));
    let others: Vec<&str> = MODALITIES
        .iter()
        .copied()
        .filter(|modality| !stated(&modalities, modality) && parts().any(|part| takes(modality, part)))
        .collect();
    let read: Vec<&str> =
        if modalities.is_empty() { MODALITIES.to_vec() } else { modalities.iter().map(String::as_str).collect() };
    let synonyms =
        |part: &str| part.is_empty() || stated(&body_parts, part) || part == "CHEST" && stated(&body_parts, "THORAX");
    let other_parts: Vec<&str> = BODY_PARTS
        .iter()
        .copied()
        .filter(|part| !synonyms(part) && read.iter().any(|modality| takes(modality, part)))
        .collect();
    let mut wider = Vec::new();
    if !others.is_empty() {
        wider.push(format!("modality {}", some(&others)));
    }
    if !other_parts.is_empty() {
        wider.push(format!("body_part {}", some(&other_parts)));
    }
    if wider.is_empty() {
        return None;
    }
    let mut made_for = Vec::new();
    for (key, texts) in [("modality", &modalities), ("body_part", &body_parts)] {
        if !texts.is_empty() {
            made_for.push(format!("{key} in {texts:?}"));
        }
    }
    Some((wider.join(" and "), made_for.join(" && ")))
}

/// The first of some, and how many more there are.
fn some(all: &[&str]) -> String {
    let first = all.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    if all.len() > 5 { format!("{first} and {} more", all.len() - 5) } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Priority;

    fn rule(name: &str, when: &str, model: &str) -> Rule {
        Rule::new(name.to_owned(), when, model.to_owned(), Vec::new(), Mode::Shadow, Priority::Routine).unwrap()
    }

    #[test]
    fn a_rule_behind_one_that_takes_as_much_is_found() {
        let check = |rules: &[Rule], expected: &[usize]| {
            let found: Vec<usize> = shadowed(rules, &["pacs", "ct"]).into_iter().map(|(index, _)| index).collect();
            assert_eq!(found, expected);
        };
        let chest = || rule("chest", "modality in ['CR', 'DX'] && body_part == 'CHEST'", "a");
        check(&[rule("all", "true", "a"), chest()], &[1]);
        check(&[chest(), rule("all", "true", "a")], &[]);
        check(&[rule("x-rays", "modality == 'CR' || modality == 'DX'", "b"), chest()], &[1]);
        check(&[rule("from ct", "source == 'ct'", "a"), rule("from pacs", "source == 'pacs'", "a")], &[]);
        check(&[rule("bones", "series_description.contains('bone')", "a"), chest()], &[]);
        check(&[chest(), rule("large", "rows > 3000", "a")], &[]);
        check(
            &[rule("chest or none", "body_part in ['', 'CHEST', 'XYZ']", "a"), rule("xyz", "body_part == 'XYZ'", "a")],
            &[1],
        );
    }

    #[test]
    fn a_rule_wider_than_its_model_is_found() {
        let manifest = Manifest::parse("modality = ['CR', 'DX']\nbody_part = ['CHEST']").unwrap();
        let check = |when: &str, expected: &[&str]| {
            let found = wider(&rule("r", when, "m"), &manifest).unwrap_or_default();
            assert_eq!(found.is_empty(), expected.is_empty(), "{when}: {found}");
            assert!(expected.iter().all(|part| found.contains(part)), "{when}: {found}");
        };
        check("modality in ['CR', 'DX'] && body_part in ['', 'CHEST']", &[]);
        check("modality == 'CR' && body_part == 'CHEST'", &[]);
        check(
            "true",
            &[
                "modality MG, CT",
                "body_part ABDOMEN",
                "more",
                "modality in [\"CR\", \"DX\"] && body_part in [\"CHEST\"]",
            ],
        );
        check("modality in ['CR', 'DX']", &["body_part ABDOMEN, PELVIS", "rule \"r\"", "model \"m\""]);
        check("body_part == 'CHEST'", &["modality MG, CT"]);
        check("body_part != 'KNEE' && modality == 'CR'", &["body_part ABDOMEN"]);
        assert_eq!(wider(&rule("r", "true", "m"), &Manifest::default()), None);

        let mut with_second = rule("r", "modality == 'CR' && body_part == 'KNEE'", "m");
        assert_eq!(wider_than_second(&with_second, &manifest), None);
        with_second.settings.second_model = Some("n".to_owned());
        let found = wider_than_second(&with_second, &manifest).unwrap();
        assert!(found.contains("second model \"n\": it takes body_part KNEE"), "{found}");
    }
}
