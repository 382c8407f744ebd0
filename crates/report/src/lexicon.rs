//! How a language writes what a report says: one folder of tables a language, read once.
//!
//! `concepts.tsv` and `sites.tsv` give the phrases for what the closed tables have, `words.tsv` the words around them by
//! what they do (negation, uncertainty, side, size...), `sections.tsv` the headings, `grammar.tsv` endings, the decimal mark
//! and abbreviations. A language is added by a folder and a row in [`FOLDERS`].

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use crate::{
    draft::{NormalStatement, Side, Size},
    structure::{Change, Composition, SectionKind},
    vocabulary::{Concept, Site},
};

/// A language that reports are read in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Language(usize);

struct Folder {
    tag: &'static str,
    name: &'static str,
    concepts: &'static str,
    sites: &'static str,
    words: &'static str,
    sections: &'static str,
    grammar: &'static str,
}

macro_rules! folder {
    ($tag:literal, $name:literal) => {
        Folder {
            tag: $tag,
            name: $name,
            concepts: include_str!(concat!("../lexicon/", $tag, "/concepts.tsv")),
            sites: include_str!(concat!("../lexicon/", $tag, "/sites.tsv")),
            words: include_str!(concat!("../lexicon/", $tag, "/words.tsv")),
            sections: include_str!(concat!("../lexicon/", $tag, "/sections.tsv")),
            grammar: include_str!(concat!("../lexicon/", $tag, "/grammar.tsv")),
        }
    };
}

/// English stands first: it is the language of model text unless something else is said.
const FOLDERS: &[Folder] = &[folder!("en", "English"), folder!("de", "German")];

impl Language {
    /// English.
    pub const ENGLISH: Self = Self(0);
    /// German.
    pub const GERMAN: Self = Self(1);

    /// Every language there is a folder for.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..FOLDERS.len()).map(Self)
    }

    /// The language of a tag (RFC 5646) such as `en` or `de`; regions after it do not matter.
    pub fn of_tag(tag: &str) -> Option<Self> {
        let primary = tag.split('-').next().unwrap_or_default();
        Self::all().find(|language| language.tag().eq_ignore_ascii_case(primary))
    }

    /// Its tag (RFC 5646).
    pub fn tag(self) -> &'static str {
        FOLDERS[self.0].tag
    }

    /// Its English name.
    pub fn name(self) -> &'static str {
        FOLDERS[self.0].name
    }

    pub(crate) fn lexicon(self) -> &'static Lexicon {
        static LEXICA: LazyLock<Vec<Lexicon>> = LazyLock::new(|| FOLDERS.iter().map(Lexicon::load).collect());
        &LEXICA[self.0]
    }
}

impl serde::Serialize for Language {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.tag())
    }
}

/// What a phrase does in a sentence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Role {
    Concept(Concept),
    Site(Site),
    NegationBefore,
    NegationAfter,
    /// Denies with a doubt: "unlikely to represent".
    UnlikelyBefore,
    UnlikelyAfter,
    /// Denies others than those that were named.
    Further,
    /// Has a negating word and negates nothing: "no change".
    Neutral,
    PossibleBefore,
    PossibleAfter,
    /// "Pneumonia versus atelectasis": neither is certain.
    Versus,
    ProbableBefore,
    ProbableAfter,
    Historical,
    HistoricalAfter,
    /// Of an earlier study, beside a word that names one: "there was".
    Past,
    Hypothetical,
    HypotheticalAfter,
    /// A question mark.
    Asked,
    /// Can deny, doubt, ask, compare or date, and stands in no phrase that says which.
    Cue,
    Terminate,
    And,
    Or,
    With,
    Change(Change),
    Prior,
    NoPrior,
    Side(Side),
    Size(Size),
    Normal,
    /// Says of the whole study that it is normal, when nothing else stands in the sentence.
    NormalStudy(NormalStatement),
    /// Names the study.
    Study,
    Aspect,
    Measure,
    /// A scheme of categories; its number or letter follows.
    Category(&'static str),
    Level,
    Recommend,
    Action(&'static str),
    Modality(&'static str),
    /// A unit, by its UCUM code.
    Unit(&'static str),
    Months(u32),
    Month,
    Signature,
    Title,
    Identity,
    Telephone,
    OtherPatient,
    Instruction,
    Machine,
    Imperative,
    Descriptor,
    Composition(Composition),
    Affirm,
    Filler,
}

/// A phrase, as words in the form without endings.
pub(crate) struct Phrase {
    pub(crate) words: Vec<&'static str>,
    pub(crate) roles: Vec<Role>,
}

/// A language's tables.
pub(crate) struct Lexicon {
    phrases: HashMap<&'static str, Vec<Phrase>>,
    words: HashSet<&'static str>,
    endings: Vec<(&'static str, &'static str)>,
    abbreviations: HashSet<&'static str>,
    cues: Vec<&'static str>,
    headings: HashMap<&'static str, SectionKind>,
    names: HashMap<Concept, &'static str>,
    site_names: HashMap<Site, &'static str>,
    pub(crate) decimal: char,
    /// Rows that mean nothing: none, as a test says.
    #[cfg(test)]
    unread: Vec<String>,
}

/// The rows of an embedded table as columns; `#` begins a comment.
pub(crate) fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| line.split('\t').map(str::trim).collect())
}

/// The entries of a cell.
pub(crate) fn list(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split('|').map(str::trim).filter(|entry| !entry.is_empty())
}

impl Lexicon {
    fn load(folder: &Folder) -> Self {
        let mut lexicon = Self {
            phrases: HashMap::new(),
            words: HashSet::new(),
            endings: Vec::new(),
            abbreviations: HashSet::new(),
            cues: Vec::new(),
            headings: HashMap::new(),
            names: HashMap::new(),
            site_names: HashMap::new(),
            decimal: '.',
            #[cfg(test)]
            unread: Vec::new(),
        };
        for row in rows(folder.grammar) {
            match row.as_slice() {
                ["ending", ending, rest @ ..] => {
                    lexicon.endings.push((ending, rest.first().copied().unwrap_or_default()));
                }
                ["decimal", mark] => lexicon.decimal = mark.chars().next().unwrap_or('.'),
                ["abbreviation", all] => lexicon.abbreviations.extend(list(all)),
                ["cue", all] => lexicon.cues.extend(list(all)),
                ["language", ..] => {}
                _ => lexicon.note(&row),
            }
        }
        for row in rows(folder.sections) {
            match row.as_slice() {
                [kind, all] => match SectionKind::named(kind) {
                    Some(kind) => lexicon.headings.extend(list(all).map(|heading| (heading, kind))),
                    None => lexicon.note(&row),
                },
                _ => lexicon.note(&row),
            }
        }
        for row in rows(folder.concepts) {
            match (row.as_slice(), row.first().and_then(|id| Concept::named(id))) {
                ([_, name, all], Some(concept)) => {
                    lexicon.names.insert(concept, name);
                    list(all).filter(|phrase| *phrase != "=").for_each(|it| lexicon.add(it, Role::Concept(concept)));
                }
                _ => lexicon.note(&row),
            }
        }
        for row in rows(folder.sites) {
            match (row.as_slice(), row.first().and_then(|id| Site::named(id))) {
                ([_, all], Some(site)) => {
                    lexicon.site_names.insert(site, list(all).next().unwrap_or_default());
                    list(all).for_each(|phrase| lexicon.add(phrase, Role::Site(site)));
                }
                _ => lexicon.note(&row),
            }
        }
        for row in rows(folder.words) {
            match (row.as_slice(), row.first().and_then(|kind| role(kind))) {
                ([_, all], Some(role)) => list(all).for_each(|phrase| lexicon.add(phrase, role)),
                _ => lexicon.note(&row),
            }
        }
        lexicon
    }

    #[cfg(test)]
    fn note(&mut self, row: &[&str]) {
        self.unread.push(row.join(" "));
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "rows that mean nothing are found by the tests")]
    fn note(&mut self, _: &[&str]) {}

    fn add(&mut self, phrase: &'static str, role: Role) {
        let words: Vec<&str> = phrase.split([' ', '-']).filter(|word| !word.is_empty()).collect();
        let Some(first) = words.first() else { return };
        self.words.extend(&words);
        let same_start = self.phrases.entry(first).or_default();
        if let Some(known) = same_start.iter_mut().find(|known| known.words == words) {
            if !known.roles.contains(&role) {
                known.roles.push(role);
            }
        } else {
            same_start.push(Phrase { words, roles: vec![role] });
            // The longest first: it says the most.
            same_start.sort_by_key(|phrase| std::cmp::Reverse(phrase.words.len()));
        }
    }

    /// The phrases that begin with one of a token's forms, the longest first within each form.
    pub(crate) fn beginning(&self, forms: &[&'static str]) -> impl Iterator<Item = &Phrase> {
        forms.iter().filter_map(|form| self.phrases.get(form)).flatten()
    }

    /// What a word, in lower case, can be a form of: itself, and what is left without an ending.
    pub(crate) fn forms(&self, word: &str) -> Vec<&'static str> {
        let mut forms: Vec<&'static str> = self.words.get(word).copied().into_iter().collect();
        for (ending, instead) in &self.endings {
            if let Some(stem) = word.strip_suffix(ending)
                && stem.chars().count() > 2
            {
                let form = format!("{stem}{instead}");
                forms.extend(self.words.get(form.as_str()).copied().filter(|form| !forms.contains(form)));
            }
        }
        forms
    }

    /// What a heading heads, in lower case and without its colon.
    pub(crate) fn heading(&self, words: &str) -> Option<SectionKind> {
        self.headings.get(words).copied()
    }

    /// Whether a full stop after this word, in lower case, is its own.
    pub(crate) fn is_abbreviation(&self, word: &str) -> bool {
        self.abbreviations.contains(word)
    }

    /// Whether a word that no table has, in lower case, looks like one that denies, doubts, asks, compares or dates.
    pub(crate) fn looks_like_cue(&self, word: &str) -> bool {
        self.cues.iter().any(|stem| word.starts_with(stem))
    }

    /// How the language calls a concept; the English name where it has none.
    pub(crate) fn name(&self, concept: Concept) -> &'static str {
        self.names.get(&concept).copied().unwrap_or_else(|| concept.name())
    }

    /// How the language calls a place.
    pub(crate) fn site_name(&self, site: Site) -> &'static str {
        self.site_names.get(&site).copied().unwrap_or_else(|| site.id())
    }
}

/// The English phrases and names of the concepts, for the vocabulary.
pub(crate) fn english_concepts() -> impl Iterator<Item = Vec<&'static str>> {
    rows(FOLDERS[0].concepts)
}

fn role(kind: &'static str) -> Option<Role> {
    if let Some((family, value)) = kind.split_once('_') {
        match family {
            "unit" => return Some(Role::Unit(value)),
            "action" => return Some(Role::Action(value)),
            "modality" => return Some(Role::Modality(value)),
            "category" => return Some(Role::Category(value)),
            "months" => return value.parse().ok().map(Role::Months),
            _ => {}
        }
    }
    Some(match kind {
        "neg_pre" => Role::NegationBefore,
        "neg_post" => Role::NegationAfter,
        "unlikely_pre" => Role::UnlikelyBefore,
        "unlikely_post" => Role::UnlikelyAfter,
        "no_abnormality" => Role::NormalStudy(NormalStatement::NoAbnormality),
        "nothing_acute" => Role::NormalStudy(NormalStatement::NothingAcute),
        "study" => Role::Study,
        "further" => Role::Further,
        "neutral" => Role::Neutral,
        "possible_pre" => Role::PossibleBefore,
        "possible_post" => Role::PossibleAfter,
        // "Consistent with" is what a report says when it means most likely.
        "probable_pre" | "certain_pre" => Role::ProbableBefore,
        "probable_post" => Role::ProbableAfter,
        "historical_pre" => Role::Historical,
        "versus" => Role::Versus,
        "past" => Role::Past,
        "historical_post" => Role::HistoricalAfter,
        "hypothetical_pre" => Role::Hypothetical,
        "hypothetical_post" => Role::HypotheticalAfter,
        "terminate" => Role::Terminate,
        "and" => Role::And,
        "or" => Role::Or,
        "with" => Role::With,
        "change_new" => Role::Change(Change::New),
        "change_larger" => Role::Change(Change::Larger),
        "change_smaller" => Role::Change(Change::Smaller),
        "change_same" => Role::Change(Change::Same),
        "change_resolved" => Role::Change(Change::Resolved),
        "prior" => Role::Prior,
        "no_prior" => Role::NoPrior,
        "side_left" => Role::Side(Side::Left),
        "side_right" => Role::Side(Side::Right),
        "side_both" => Role::Side(Side::Bilateral),
        "size_small" | "size_mild" => Role::Size(Size::Small),
        "size_moderate" => Role::Size(Size::Moderate),
        "size_large" | "size_severe" => Role::Size(Size::Large),
        "normal" => Role::Normal,
        "aspect" => Role::Aspect,
        "measure" => Role::Measure,
        "level" => Role::Level,
        "recommend" => Role::Recommend,
        "month" => Role::Month,
        "signature" => Role::Signature,
        "title" => Role::Title,
        "identity" => Role::Identity,
        "telephone" => Role::Telephone,
        "other" | "other_patient" => Role::OtherPatient,
        "instruction" => Role::Instruction,
        "machine" => Role::Machine,
        "imperative" => Role::Imperative,
        "descriptor" => Role::Descriptor,
        "solid" => Role::Composition(Composition::Solid),
        "part_solid" => Role::Composition(Composition::PartSolid),
        "ground_glass" => Role::Composition(Composition::GroundGlass),
        "cue" => Role::Cue,
        "affirm" => Role::Affirm,
        "filler" => Role::Filler,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_every_language_means_something() {
        for language in Language::all() {
            let lexicon = language.lexicon();
            assert!(lexicon.unread.is_empty(), "{}: {:?}", language.tag(), lexicon.unread);
            assert!(lexicon.phrases.len() > 300, "{}", language.tag());
        }
        assert_eq!(Language::of_tag("de-AT"), Some(Language::GERMAN));
        assert_eq!(Language::of_tag("tlh"), None);
    }

    /// The last of two rows would win, or none: which concept a word means must not depend on an order.
    #[test]
    fn no_phrase_means_two_concepts_or_two_places() {
        for language in Language::all() {
            for phrase in language.lexicon().phrases.values().flatten() {
                let concepts = phrase.roles.iter().filter(|role| matches!(role, Role::Concept(_))).count();
                let sites = phrase.roles.iter().filter(|role| matches!(role, Role::Site(_))).count();
                assert!(concepts <= 1 && sites <= 1, "{}: {:?}", language.tag(), phrase.words);
            }
        }
    }
}
