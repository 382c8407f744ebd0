//! What is no report: text that breaks off, repeats itself, belongs elsewhere or answers an instruction.

use std::collections::HashMap;

use super::{Case, Found};
use crate::structure::{SectionKind, Sentence, Understood};

/// Output that was meant for JSON and could not be read.
pub(super) fn malformed(case: &Case<'_>) -> Vec<Found> {
    case.structure().unreadable.iter().map(|why| Found::whole(why.clone())).collect()
}

pub(super) fn truncated(case: &Case<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    let omitted = case.structure().omitted;
    if omitted > 0 {
        found.push(Found::whole(format!(
            "{omitted} sentences beyond the limit were left out: the model may be looping"
        )));
    }
    if case.study.reading.cut {
        found.push(Found::whole("the model was stopped before it had ended its text"));
    }
    let sentences = &case.structure().sentences;
    if let Some(last) = sentences.last() {
        let others_end = sentences.iter().any(|sentence| sentence.text.ends_with('.'));
        let marks = &last.marks;
        let signed = marks.signature || marks.title || marks.identity || marks.telephone;
        let unread = last.understood != Understood::Whole && others_end && last.section.is_of_images() && !signed;
        if !last.ends && (last.marks.breaks_off || unread) {
            found.push(Found::at(sentences.len() - 1, "the text breaks off in the middle of a sentence"));
        }
    }
    found
}

fn folded(sentence: &Sentence) -> Vec<String> {
    let words = sentence.text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

/// The same sentence three times, or a sentence that goes round within itself.
pub(super) fn loops(case: &Case<'_>) -> Vec<Found> {
    let mut seen: HashMap<Vec<String>, usize> = HashMap::new();
    let mut found = Vec::new();
    for (number, sentence) in case.structure().sentences.iter().enumerate() {
        let words = folded(sentence);
        if (1..=12).any(|period| goes_round(&words, period)) {
            found.push(Found::at(number, "the sentence repeats the same words over and over"));
        }
        if words.len() > 1 {
            let times = seen.entry(words).or_default();
            *times += 1;
            if *times == 3 {
                found.push(Found::at(number, "the same sentence stands here for the third time"));
            }
        }
    }
    found
}

/// Four times the same `period` words, one after the other, and eight words at least.
fn goes_round(words: &[String], period: usize) -> bool {
    let mut run = 0;
    for at in period..words.len() {
        run = if words[at] == words[at - period] { run + 1 } else { 0 };
        if run >= (3 * period).max(5) {
            return true;
        }
    }
    false
}

/// What the findings and the impression both say is no repetition.
pub(super) fn repetition(case: &Case<'_>) -> Vec<Found> {
    let mut seen: HashMap<(bool, Vec<String>), usize> = HashMap::new();
    let mut found = Vec::new();
    for (number, sentence) in case.of_images() {
        let words = folded(sentence);
        if words.len() < 2 {
            continue;
        }
        let times = seen.entry((sentence.section == SectionKind::Impression, words)).or_default();
        *times += 1;
        // Once for each sentence, however often it comes again.
        if *times == 2 {
            found.push(Found::at(number, "the same sentence stands here twice"));
        }
    }
    found
}

/// Signatures, names, dates and numbers of telephones: what a draft never has, because nobody signed it.
pub(super) fn foreign(case: &Case<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (number, sentence) in case.structure().sentences.iter().enumerate() {
        let marks = &sentence.marks;
        let compares = sentence.section == SectionKind::Comparison || case.study.prior_given && marks.compares;
        let what = if marks.signature {
            "a signature"
        } else if marks.identity {
            "what identifies a patient"
        } else if marks.title || has_name(case, sentence) {
            "a name"
        } else if marks.telephone || has_long_number(&sentence.text) && !compares {
            "a number that is no measurement"
        } else if marks.dates > 0 && !compares && sentence.section != SectionKind::Indication {
            "a date"
        } else if sentence.section == SectionKind::Foreign {
            "a section that is no part of a draft"
        } else {
            continue;
        };
        found.push(Found::at(number, format!("the sentence has {what}")));
    }
    found
}

fn has_name(case: &Case<'_>, sentence: &Sentence) -> bool {
    let names = &case.study.names;
    !names.is_empty() && folded(sentence).iter().any(|word| names.iter().any(|name| name.expose() == word))
}

/// Seven digits in a row, with the marks that numbers of telephones and patients have in between.
fn has_long_number(text: &str) -> bool {
    let mut digits = 0;
    for character in text.chars() {
        match character {
            c if c.is_ascii_digit() => digits += 1,
            ' ' | '-' | '(' | ')' | '/' | '+' => {}
            _ => digits = 0,
        }
        if digits >= 7 {
            return true;
        }
    }
    false
}

pub(super) fn other_patient(case: &Case<'_>) -> Vec<Found> {
    let sentences = case.structure().sentences.iter().enumerate();
    sentences
        .filter(|(_, sentence)| sentence.marks.other_patient)
        .map(|(number, _)| Found::at(number, "the sentence speaks of another patient"))
        .collect()
}

pub(super) fn machine(case: &Case<'_>) -> Vec<Found> {
    let sentences = case.structure().sentences.iter().enumerate();
    sentences
        .filter(|(_, sentence)| sentence.marks.machine)
        .map(|(number, _)| Found::at(number, "the sentence is a machine's talk, not a report's"))
        .collect()
}

/// Words of markup, templates and queries: no report has them, and a header that tries to do harm does.
const CODE: &[&str] = &["<script", "${", "{{", "drop table", "http://", "https://", "javascript:", "\u{1b}["];

/// A sentence that speaks of instructions, has code, or repeats a text of header or pixels that is an instruction.
pub(super) fn instruction(case: &Case<'_>) -> Vec<Found> {
    let given: Vec<Vec<String>> =
        case.study.texts.iter().filter(|text| instructs(text)).map(|text| fold(text)).collect();
    let mut found = Vec::new();
    for (number, sentence) in case.structure().sentences.iter().enumerate() {
        let lower = sentence.text.to_lowercase();
        let words = folded(sentence);
        let what = if sentence.marks.instruction {
            "the sentence follows or repeats an instruction"
        } else if CODE.iter().any(|code| lower.contains(code)) {
            "the sentence has code"
        } else if given.iter().any(|text| shares(text, &words)) {
            "the sentence says what a text of the header or the pixels told the model to say"
        } else {
            continue;
        };
        found.push(Found::at(number, what));
    }
    found
}

fn fold(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Whether a text of the header tells somebody to do something, or has code in it.
fn instructs(text: &str) -> bool {
    let marks = |text: &str| crate::structure::read_sentence(text, crate::Language::ENGLISH).marks;
    let lower = text.to_lowercase();
    let verbs = ["ignore ", "disregard ", "report ", "write ", "say ", "output ", "respond ", "answer ", "print "];
    let orders = verbs.iter().any(|verb| lower.starts_with(verb) || lower.contains(&format!(". {verb}")));
    orders || CODE.iter().any(|code| lower.contains(code)) || marks(text).instruction
}

/// Three words in a row, or all of a short sentence, out of the text.
fn shares(text: &[String], words: &[String]) -> bool {
    let length = words.len().min(3);
    length >= 2 && words.windows(length).any(|window| text.windows(length).any(|other| other == window))
}
