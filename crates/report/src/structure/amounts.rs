//! Numbers of a sentence: what was measured, which category, and when something should be done.

use std::ops::Range;

use super::{
    Category, Measurement, Recommendation,
    reader::Found,
    token::{Kind, Token},
};
use crate::lexicon::Role;

/// Whether a bare number may follow what ends at this token: "segment 6", "L4" is a word.
pub(super) fn leads_number(found: &[Found<'_>], token: usize) -> bool {
    found.iter().any(|phrase| phrase.end == token + 1 && phrase.is(Role::Level))
}

/// The measurements with the tokens that each one is, and the tokens of all numbers that are accounted for.
pub(super) fn measurements(tokens: &[Token], found: &[Found<'_>]) -> (Vec<(Range<usize>, Measurement)>, Vec<usize>) {
    let unit_at = |at: usize| {
        let phrase = found.iter().find(|phrase| phrase.at == at)?;
        phrase.roles.iter().find_map(|role| if let Role::Unit(unit) = role { Some(*unit) } else { None })
    };
    let is_times = |at: usize| tokens.get(at).and_then(Token::word).is_some_and(|it| matches!(it, "x" | "by" | "mal"));
    let is_to = |at: usize| {
        tokens
            .get(at)
            .is_some_and(|token| token.kind == Kind::Dash || token.word().is_some_and(|it| it == "to" || it == "bis"))
    };
    let (mut measured, mut numbers) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let Some(first) = tokens[at].number() else {
            at += 1;
            continue;
        };
        let start = at;
        let (mut values, mut range, mut parts, mut unit) = (vec![first], false, vec![at], unit_at(at + 1));
        let mut next = at + 1 + usize::from(unit.is_some());
        while values.len() < 3 && (is_times(next) || is_to(next) && values.len() == 1) {
            let Some(value) = tokens.get(next + 1).and_then(Token::number) else { break };
            range |= is_to(next);
            values.push(value);
            parts.extend([next, next + 1]);
            unit = unit_at(next + 2).or(unit);
            next += 2 + usize::from(unit_at(next + 2).is_some());
        }
        at = next.max(at + 1);
        if let Some(unit) = unit {
            numbers.extend(parts);
            // Times and ages are no measurements of what is seen.
            if !matches!(unit, "mo" | "wk" | "a" | "d" | "h") {
                measured.push((start..at, Measurement { values, unit, range }));
            }
        }
    }
    (measured, numbers)
}

/// "BI-RADS 4A": the categories, and the tokens that give them.
pub(super) fn categories(tokens: &[Token], found: &[Found<'_>]) -> (Vec<Category>, Vec<usize>) {
    let (mut categories, mut used) = (Vec::new(), Vec::new());
    for phrase in found {
        let scheme = phrase.roles.iter().find_map(|role| if let Role::Category(it) = role { Some(*it) } else { None });
        let Some(scheme) = scheme else { continue };
        let mut at = phrase.end;
        // "BI-RADS category: 4", "BI-RADS is 2".
        while tokens.get(at).is_some_and(|token| {
            token.kind == Kind::Colon
                || token.word().is_some_and(|it| matches!(it, "category" | "is" | "kategorie" | "typ"))
        }) {
            at += 1;
        }
        let mut value = String::new();
        if let Some(number) = tokens.get(at).and_then(Token::number) {
            value = number.to_string();
            used.push(at);
            at += 1;
        }
        let letter = tokens.get(at).and_then(Token::word).filter(|word| matches!(*word, "a" | "b" | "c" | "d"));
        let adjacent = value.is_empty() || tokens.get(at).is_some_and(|it| it.range.start == tokens[at - 1].range.end);
        if let Some(letter) = letter.filter(|_| adjacent) {
            value += letter;
            used.push(at);
        }
        if !value.is_empty() {
            categories.push(Category { scheme, value });
        }
    }
    (categories, used)
}

/// What a sentence asks to be done, and when.
pub(super) fn recommendation(tokens: &[Token], found: &[Found<'_>]) -> Option<Recommendation> {
    let mut recommendation = Recommendation::default();
    let mut recommends = false;
    for phrase in found {
        recommends |= phrase.is(Role::Recommend);
        for role in phrase.roles {
            match role {
                Role::Action(action) => {
                    // "Short interval follow-up" and "no follow-up" recommend by themselves.
                    recommends |= matches!(*action, "none" | "short_follow_up");
                    recommendation.actions.push(action);
                }
                Role::Months(months) => recommendation.months = Some((f64::from(*months), f64::from(*months))),
                _ => {}
            }
        }
    }
    let unit = |at: usize| {
        let phrase = found.iter().find(|phrase| phrase.at == at)?;
        phrase.roles.iter().find_map(|role| match role {
            Role::Unit("mo") => Some(1.0),
            Role::Unit("a") => Some(12.0),
            Role::Unit("wk") => Some(0.25),
            _ => None,
        })
    };
    for (at, token) in tokens.iter().enumerate() {
        let (Some(first), Some(next)) = (token.number(), tokens.get(at + 1)) else { continue };
        let to = next.kind == Kind::Dash || next.word().is_some_and(|word| matches!(word, "to" | "bis" | "or"));
        let second = tokens.get(at + 2).and_then(Token::number).filter(|_| to);
        let last = second.map_or(at, |_| at + 2);
        if let Some(unit) = unit(last + 1)
            && recommendation.months.is_none()
        {
            recommendation.months = Some((first * unit, second.unwrap_or(first) * unit));
        }
    }
    (recommends && (!recommendation.actions.is_empty() || recommendation.months.is_some())).then_some(recommendation)
}
