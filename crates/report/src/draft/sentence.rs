//! From text to sentences, and the cleaning of those that are shown as they stand.

use std::ops::Range;

/// Words before a colon that head a section and say nothing themselves.
const HEADINGS: &[&str] = &["findings", "finding", "impression", "impressions", "conclusion", "conclusions", "report"];

/// Characters of a sentence that is shown as it stands; a model that never ends a sentence is cut here.
const SHOWN: usize = 400;

/// The sentences of a text, as byte ranges without surrounding space, bullets and headings.
pub(super) fn split(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let ends = match character {
            '!' | '?' | ';' | '\n' | '\r' | '\u{2028}' | '\u{2029}' | '。' => true,
            // "3.5 cm" and "e.g." go on.
            '.' => !next.is_some_and(char::is_alphanumeric),
            _ => false,
        };
        if ends {
            let end = at + character.len_utf8();
            ranges.extend(trim(text, start..end));
            start = end;
        }
    }
    ranges.extend(trim(text, start..text.len()));
    ranges
}

/// Takes away space, list marks and headings; nothing when nothing is left.
fn trim(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let mark =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '*' | '#' | '-' | '_' | '•' | '–' | '.' | ':');
    let whole = &text[range.clone()];
    let mut body = whole.trim_start_matches(mark);
    if let Some((heading, rest)) = body.split_once(':')
        && HEADINGS.contains(&heading.trim().to_lowercase().as_str())
    {
        body = rest.trim_start_matches(mark);
    }
    let start = range.start + (whole.len() - body.len());
    let body = body.trim_end();
    // The number of a list entry is no sentence.
    let says_something = body.chars().any(char::is_alphabetic);
    let heading = HEADINGS.contains(&body.to_lowercase().as_str());
    (says_something && !heading).then(|| start..start + body.len())
}

/// The model's words, made harmless: one line, no control, direction or private characters, bounded, and without `\`
/// and `~`, whose codes are other characters in the Japanese sets.
pub(super) fn clean(words: &str) -> String {
    let mut text = String::new();
    let mut count = 0;
    for character in words.chars() {
        let kept = match character {
            '\\' => '/',
            '~' => '-',
            '\u{2018}' | '\u{2019}' => '\'',
            '\u{201c}' | '\u{201d}' => '"',
            '\u{2010}'..='\u{2015}' => '-',
            c if c.is_whitespace() || c.is_control() => ' ',
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => {
                continue;
            }
            '\u{feff}' | '\u{fff0}'..='\u{ffff}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}' => continue,
            c => c,
        };
        if kept == ' ' && (text.is_empty() || text.ends_with(' ')) {
            continue;
        }
        if count == SHOWN {
            text.truncate(text.trim_end().len());
            text.push_str(" [cut]");
            break;
        }
        text.push(kept);
        count += 1;
    }
    text.truncate(text.trim_end().len());
    text
}
