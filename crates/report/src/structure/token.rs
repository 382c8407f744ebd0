//! A sentence as words, numbers and marks.

use std::ops::Range;

use crate::lexicon::{Lexicon, Role};

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// Letters, and digits after a letter, in lower case, with the forms of the lexicon it can be.
    Word(String, Vec<&'static str>),
    /// A number.
    Number(f64),
    /// A date, or a year.
    Date,
    Comma,
    Semicolon,
    Colon,
    /// A stroke between numbers: a range.
    Dash,
    /// A question mark.
    Question,
    /// Anything else that could change what a sentence says.
    Other(char),
}

/// A token and the bytes it stands for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) range: Range<usize>,
}

impl Token {
    pub(crate) fn word(&self) -> Option<&str> {
        if let Kind::Word(word, _) = &self.kind { Some(word) } else { None }
    }

    pub(crate) fn forms(&self) -> &[&'static str] {
        if let Kind::Word(_, forms) = &self.kind { forms } else { &[] }
    }

    pub(crate) fn number(&self) -> Option<f64> {
        if let Kind::Number(number) = self.kind { Some(number) } else { None }
    }
}

/// Splits a sentence. Dates are one token each, so that no part of one is taken for a measurement.
pub(crate) fn tokens(sentence: &str, lexicon: &Lexicon) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = sentence.char_indices().peekable();
    while let Some((start, character)) = rest.next() {
        let mut end = start + character.len_utf8();
        let kind = if character.is_ascii_digit() {
            let mut marks = 0;
            while let Some(&(at, next)) = rest.peek() {
                let mark = matches!(next, '.' | ',')
                    && (next == lexicon.decimal || next == '.')
                    && sentence[at + 1..].starts_with(|c: char| c.is_ascii_digit());
                if !next.is_ascii_digit() && !mark {
                    break;
                }
                marks += usize::from(mark);
                end = at + 1;
                rest.next();
            }
            let digits = sentence[start..end].replace(',', ".");
            if marks >= 2 { Kind::Date } else { digits.parse().map_or(Kind::Other('0'), Kind::Number) }
        } else if character.is_alphabetic() || matches!(character, '%' | '°' | '&') {
            while let Some(&(at, next)) = rest.peek() {
                let inside = next == '\'' || next == '\u{2019}';
                if !character.is_alphabetic() || !(next.is_alphanumeric() || inside) {
                    break;
                }
                end = at + next.len_utf8();
                rest.next();
            }
            let word = sentence[start..end].to_lowercase().replace('\u{2019}', "'");
            let forms = lexicon.forms(&word);
            Kind::Word(word, forms)
        } else {
            match character {
                c if c.is_whitespace() => continue,
                '.' | '!' | '(' | ')' | '[' | ']' | '"' | '\'' | '*' | '#' | '_' | '•' => continue,
                ',' => Kind::Comma,
                ';' => Kind::Semicolon,
                ':' => Kind::Colon,
                '?' => Kind::Question,
                '-' | '\u{2010}'..='\u{2015}' => {
                    let after_number = tokens.last().is_some_and(|last| last.range.end == start || is_number(last));
                    let before_number = sentence[end..].trim_start().starts_with(|c: char| c.is_ascii_digit());
                    if after_number && before_number && tokens.last().is_some_and(is_number) {
                        Kind::Dash
                    } else {
                        continue;
                    }
                }
                // "PET/CT" is one phrase; "effusion/pneumothorax" could be read two ways.
                '/' if joins(&tokens, &sentence[end..], lexicon) => continue,
                // "R>L"
                '<' | '>' => Kind::Word(character.to_string(), lexicon.forms(&character.to_string())),
                '×' => Kind::Word("x".to_owned(), lexicon.forms("x")),
                other => Kind::Other(other),
            }
        };
        tokens.push(Token { kind, range: start..end });
    }
    join_dates(tokens, lexicon)
}

/// Whether a stroke stands within a phrase of the lexicon.
fn joins(before: &[Token], after: &str, lexicon: &Lexicon) -> bool {
    let Some(first) = before.last() else { return false };
    let next: String = after.chars().take_while(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    !next.is_empty() && lexicon.beginning(first.forms()).any(|phrase| phrase.words.get(1) == Some(&next.as_str()))
}

fn is_number(token: &Token) -> bool {
    token.number().is_some()
}

/// `2024-03-12`, `3/12/2024`, `12 March 2024` and `2024` become dates.
fn join_dates(tokens: Vec<Token>, lexicon: &Lexicon) -> Vec<Token> {
    let is_month = |token: &Token| {
        let mut months = lexicon.beginning(token.forms()).filter(|phrase| phrase.words.len() == 1);
        months.any(|phrase| phrase.roles.contains(&Role::Month))
    };
    let is_year = |token: &Token| token.number().is_some_and(|it| it.fract() == 0.0 && (1900.0..2100.0).contains(&it));
    let is_day = |token: &Token| token.number().is_some_and(|it| it.fract() == 0.0 && (1.0..=31.0).contains(&it));
    let is_mark = |token: &Token| matches!(token.kind, Kind::Dash | Kind::Other('/'));
    let mut joined: Vec<Token> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let window = &tokens[at..];
        let taken = match window {
            [a, m, b, n, c, ..] if is_number(a) && is_mark(m) && is_number(b) && is_mark(n) && is_number(c) => 5,
            [day, month, year, ..] if is_day(day) && is_month(month) && is_year(year) => 3,
            [month, day, year, ..] if is_month(month) && is_day(day) && is_year(year) => 3,
            [month, day, comma, year, ..]
                if is_month(month) && is_day(day) && comma.kind == Kind::Comma && is_year(year) =>
            {
                4
            }
            [month, year, ..] if is_month(month) && is_year(year) => 2,
            [year, ..] if is_year(year) && !window.get(1).is_some_and(|next| next.word().is_some_and(is_unit)) => 1,
            _ => 0,
        };
        if taken == 0 {
            joined.push(window[0].clone());
            at += 1;
        } else {
            joined.push(Token { kind: Kind::Date, range: window[0].range.start..window[taken - 1].range.end });
            at += taken;
        }
    }
    joined
}

fn is_unit(word: &str) -> bool {
    matches!(word, "mm" | "cm" | "ml" | "hu" | "he")
}
