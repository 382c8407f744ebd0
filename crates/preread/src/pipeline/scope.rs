//! A model reads only what it was made for: what its manifest says of modality, body part, view, age and sex against what
//! each image states.

use std::{cell::OnceCell, collections::BTreeMap, path::Path};

use anyhow::Result;
use dataset::{Header, Limits};
use infer::Manifest;

use super::Models;
use crate::{
    config::{Mode, Unstated},
    route::{Facts, Rule},
};

mod stated;
mod words;

use stated::Stated;

#[cfg(test)]
mod tests;

/// An image that rules and models are held against.
pub(crate) struct Candidate<'a> {
    header: &'a Header,
    path: &'a Path,
    facts: Facts,
    stated: OnceCell<Stated>,
}

impl<'a> Candidate<'a> {
    /// One that came from `source`.
    pub(crate) fn new(header: &'a Header, path: &'a Path, source: &str) -> Self {
        Self { header, path, facts: Facts::of(header, source), stated: OnceCell::new() }
    }

    /// What a rule sees of it.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// What a model's manifest says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is what the model was made for.
    Reads,
    /// Nothing speaks against it, but it does not state these.
    Silent(Vec<&'static str>),
    /// It states something else.
    Otherwise(String),
}

/// What becomes of a study's images.
pub(crate) enum Chosen<'a> {
    /// A rule's model reads some.
    Read(Taken<'a>),
    /// It could read some, if they said what they are.
    Hold(&'a Rule, String),
    /// No model reads any.
    Skip(String),
}

/// The images that a rule's model reads.
pub(crate) struct Taken<'a> {
    pub(crate) rule: &'a Rule,
    /// Their indices, in order.
    pub(crate) images: Vec<usize>,
    /// The others, and why not.
    pub(crate) left_out: BTreeMap<usize, String>,
    /// What a reader of the report should know.
    pub(crate) notes: Vec<String>,
}

/// Who judges: the rules in their order, with the models' manifests.
pub(crate) struct Judge<'a> {
    pub(crate) rules: &'a [Rule],
    pub(crate) models: &'a Models,
    pub(crate) limits: &'a Limits,
}

impl<'a> Judge<'a> {
    /// What the model of a rule says of an image that the rule takes.
    pub(crate) fn fit(&self, rule: &Rule, image: &Candidate<'_>) -> Fit {
        self.fit_of(&rule.model, image)
    }

    /// The same of any model, by its name.
    fn fit_of(&self, model: &str, image: &Candidate<'_>) -> Fit {
        let Some(bundle) = self.models.bundle(model) else { return Fit::Reads };
        let of_model = |model: &String| {
            let manifest = self.models.bundle(model).map(|bundle| &bundle.manifest);
            manifest.is_some_and(|it| !it.body_part.is_empty() || !it.view.is_empty())
        };
        let sequences =
            |rule: &Rule| of_model(&rule.model) || rule.settings.second_model.as_ref().is_some_and(of_model);
        let look = || Stated::of(image.header, image.path, self.limits, self.rules.iter().any(sequences));
        fit(&bundle.manifest, image.stated.get_or_init(look))
    }

    /// The images of those taken that the rule's second model was not made for, by index, and why.
    pub(super) fn not_for_second(&self, taken: &Taken<'_>, images: &[Candidate<'_>]) -> BTreeMap<usize, String> {
        let Some(second) = &taken.rule.settings.second_model else { return BTreeMap::new() };
        let why = |index: &usize| match self.fit_of(second, &images[*index]) {
            Fit::Reads => None,
            Fit::Silent(_) if taken.rule.settings.unstated == Unstated::Read => None,
            Fit::Silent(keys) => Some((*index, format!("it does not state its {}", keys.join(", ")))),
            Fit::Otherwise(why) => Some((*index, why)),
        };
        taken.images.iter().filter_map(why).collect()
    }

    /// The first rule that takes an image which its model reads, and its images; else the first that waits for a person.
    pub(crate) fn choose(&self, images: &[Candidate<'_>]) -> Result<Chosen<'a>> {
        let (mut refused, mut waiting, mut matched) = (BTreeMap::new(), None, Vec::new());
        for rule in self.rules.iter().filter(|rule| rule.mode != Mode::Off) {
            let mut taken = Taken { rule, images: Vec::new(), left_out: BTreeMap::new(), notes: Vec::new() };
            let mut silent: BTreeMap<Vec<&'static str>, usize> = BTreeMap::new();
            for (index, image) in images.iter().enumerate() {
                if !rule.matches(&image.facts)? {
                    taken.left_out.insert(index, format!("rule \"{}\" does not take it", rule.name));
                    continue;
                }
                if !matched.contains(&&rule.model) {
                    matched.push(&rule.model);
                }
                match self.fit(rule, image) {
                    Fit::Reads => taken.images.push(index),
                    Fit::Otherwise(why) => {
                        *refused.entry(why.clone()).or_insert(0) += 1;
                        taken.left_out.insert(index, format!("model \"{}\" does not read it: {why}", rule.model));
                    }
                    Fit::Silent(keys) => {
                        if rule.settings.unstated == Unstated::Read {
                            taken.images.push(index);
                        } else {
                            taken.left_out.insert(index, format!("it does not state its {}", keys.join(", ")));
                        }
                        *silent.entry(keys).or_insert(0) += 1;
                    }
                }
            }
            if taken.images.is_empty() {
                let hold = !silent.is_empty() && waiting.is_none();
                waiting = if hold { Some((rule, not_stated(rule, &silent))) } else { waiting };
                continue;
            }
            if rule.settings.unstated == Unstated::Read {
                let note = |(keys, count): (&Vec<&str>, &usize)| {
                    format!("{count} images do not state their {}; they were read all the same", keys.join(", "))
                };
                taken.notes = silent.iter().map(note).collect();
            }
            return Ok(Chosen::Read(taken));
        }
        Ok(match waiting {
            Some((rule, reason)) => Chosen::Hold(rule, reason),
            None => Chosen::Skip(skipped(images.len(), &matched, &refused)),
        })
    }
}

/// Why a study waits for a person, and what they can do.
fn not_stated(rule: &Rule, silent: &BTreeMap<Vec<&'static str>, usize>) -> String {
    let each: Vec<String> =
        silent.iter().map(|(keys, count)| format!("{count} images do not state their {}", keys.join(", "))).collect();
    format!(
        "{}, and model \"{}\" was made for some only; have the sender fill it in, or set unstated = \"read\" in rule \"{}\" and \
         retry the study",
        each.join("; "),
        rule.model,
        rule.name
    )
}

fn skipped(images: usize, matched: &[&String], refused: &BTreeMap<String, usize>) -> String {
    let explain = "`preread route explain` on its files says more";
    if matched.is_empty() {
        return format!("no rule takes any of its {images} images; {explain}");
    }
    let models: Vec<String> = matched.iter().map(|model| format!("\"{model}\"")).collect();
    let reasons: Vec<String> = refused.iter().map(|(why, count)| format!("{count} x {why}")).collect();
    let what = if models.len() == 1 { "model" } else { "models" };
    format!("{what} {} was not made for any of its images: {}; {explain}", models.join(", "), reasons.join(", "))
}

/// Whether a model was made for an image.
pub(super) fn fit(manifest: &Manifest, image: &Stated) -> Fit {
    let checks = [
        modality(manifest, image),
        body_part(manifest, image),
        view(manifest, image),
        age(manifest, image),
        sex(manifest, image),
    ];
    let mut silent = Vec::new();
    for check in checks {
        match check {
            Fit::Reads => {}
            Fit::Silent(keys) => silent.extend(keys),
            otherwise => return otherwise,
        }
    }
    if silent.is_empty() { Fit::Reads } else { Fit::Silent(silent) }
}

/// Of statements that each fit, do not, or leave it open: one that does not counts, then one that does.
fn together(statements: impl IntoIterator<Item = Option<bool>>) -> Option<bool> {
    let mut found = None;
    for statement in statements.into_iter().flatten() {
        found = Some(statement && found.unwrap_or(true));
    }
    found
}

/// Whether all of some are among others, none is, or some are.
fn among<T: PartialEq>(some: &[T], others: &[T]) -> Option<bool> {
    match some.iter().filter(|it| others.contains(it)).count() {
        0 => Some(false),
        all if all == some.len() => Some(true),
        _ => None,
    }
}

fn said(found: Option<bool>, silent: &'static str, otherwise: impl FnOnce() -> String) -> Fit {
    match found {
        Some(true) => Fit::Reads,
        Some(false) => Fit::Otherwise(otherwise()),
        None => Fit::Silent(vec![silent]),
    }
}

fn modality(manifest: &Manifest, image: &Stated) -> Fit {
    if manifest.modality.is_empty() {
        return Fit::Reads;
    }
    let made_for: Vec<String> = manifest.modality.iter().map(|it| it.trim().to_uppercase()).collect();
    let names: Vec<&str> = made_for.iter().map(String::as_str).collect();
    let of_class = image.modalities_of_class.and_then(|class| among(class, &names));
    let found = match &image.modality {
        // What a class is usually called does not speak for an image that says its modality, only against it.
        Some(own) => Some(names.contains(&own.as_str()) && of_class != Some(false)),
        None => of_class,
    };
    let own =
        || image.modality.as_deref().filter(|own| own.len() <= 8 && own.bytes().all(|it| it.is_ascii_uppercase()));
    said(found, "modality (Modality)", || match own() {
        Some(own) if !names.contains(&own) => {
            format!("its modality is {own}, and the model reads {}", names.join(", "))
        }
        _ => format!("it is an image of another modality than {}", names.join(", ")),
    })
}

fn body_part(manifest: &Manifest, image: &Stated) -> Fit {
    if manifest.body_part.is_empty() {
        return Fit::Reads;
    }
    let own = |text: &String| words::body_part(text).unwrap_or_else(|| text.clone());
    let made_for: Vec<String> = manifest.body_part.iter().map(own).collect();
    let found = together(image.body_parts.iter().map(|part| Some(made_for.contains(part))));
    said(found, "body part (Body Part Examined, Anatomic Region Sequence)", || {
        let other = image.body_parts.iter().find(|part| !made_for.contains(*part));
        // Free text may be a name.
        let other = other.filter(|part| words::is_known(part)).map_or("no term of the standard", String::as_str);
        format!("its body part is {other}, and the model reads {}", made_for.join(", "))
    })
}

/// Modalities whose images are projections, which have a view.
const PROJECTIONS: &[&str] = &["CR", "DX", "DR", "RG", "RF", "XA", "MG", "IO", "PX"];

fn view(manifest: &Manifest, image: &Stated) -> Fit {
    const SILENT: &str = "view (View Position, View Code Sequence)";
    let is_projection = match (&image.modality, image.modalities_of_class) {
        (Some(modality), _) => PROJECTIONS.contains(&modality.as_str()),
        (None, class) => class.is_none_or(|class| class.iter().any(|it| PROJECTIONS.contains(it))),
    };
    if manifest.view.is_empty() || !is_projection {
        return Fit::Reads;
    }
    let otherwise = || format!("it is another view than {}", manifest.view.join(", "));
    if image.view.breast {
        return said(
            view_of_breast(manifest, image),
            "view and side (View Position, View Code Sequence, Image Laterality)",
            otherwise,
        );
    }
    let own = |text: &String| words::view(text).unwrap_or_else(|| text.clone());
    let made_for: Vec<String> = manifest.view.iter().map(own).collect();
    let made_for: Vec<&str> = made_for.iter().flat_map(|view| words::views_of(view)).collect();
    let stated = together(image.views.iter().map(|view| among(&words::views_of(view), &made_for)));
    // How the patient lay is enough to say no, never to say yes: senders fill it in as it is for most. Of an oblique view
    // it tells nothing.
    const STRAIGHT: &[&str] = &["PA", "AP", "LL", "RL"];
    let is_straight = |view: &String| words::views_of(view).iter().all(|one| STRAIGHT.contains(one));
    let possible = image.possible_views.filter(|_| image.views.iter().all(is_straight));
    let possible = possible.and_then(|views| among(views, &made_for)).filter(|fits| !fits);
    said(together([stated, possible]), SILENT, otherwise)
}

fn view_of_breast(manifest: &Manifest, image: &Stated) -> Option<bool> {
    if image.view.modified {
        return Some(false);
    }
    let projection = image.view.projection.as_ref().and_then(|text| words::view(text))?;
    if manifest.view.iter().any(|wanted| image.view.is(wanted)) {
        return Some(true);
    }
    // Of a side that is not stated it could be the one.
    let sides = ["R", "L", "B"].map(|side| format!("{side}{projection}"));
    let of_one_side = manifest.view.iter().any(|wanted| sides.iter().any(|name| wanted.eq_ignore_ascii_case(name)));
    if image.view.laterality.is_none() && of_one_side { None } else { Some(false) }
}

fn age(manifest: &Manifest, image: &Stated) -> Fit {
    let Some(made_for) = manifest.age else { return Fit::Reads };
    let found = together(image.ages.iter().map(|(low, high)| made_for.hold(*low, *high)));
    said(found, "patient's age (Patient's Age, or Patient's Birth Date and Study Date)", || {
        format!("the patient's age is not one that the model was made for ({made_for})")
    })
}

fn sex(manifest: &Manifest, image: &Stated) -> Fit {
    if manifest.sex.is_empty() {
        return Fit::Reads;
    }
    let found = image.sex.map(|sex| manifest.sex.iter().any(|it| it == sex));
    said(found, "patient's sex (Patient's Sex)", || {
        format!("the patient's sex is not one that the model was made for ({})", manifest.sex.join(", "))
    })
}
