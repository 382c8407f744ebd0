//! From a text to its sentences, each in its section.

use std::ops::Range;

use super::SectionKind;
use crate::lexicon::Lexicon;

/// A sentence's bytes and the section it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) section: SectionKind,
    pub(crate) range: Range<usize>,
    /// Whether it ends as a sentence does: with a mark, or with its line.
    pub(crate) ends: bool,
}

/// A line that goes on in the next has at least so many characters, when the next does not begin in lower case.
const WRAPPED: usize = 56;

/// The longest heading, in bytes.
const HEADING: usize = 60;

/// The sentences of a text, without surrounding space, bullets, numbers of lists and headings.
pub(crate) fn pieces(text: &str, lexicon: &Lexicon) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut section = SectionKind::Findings;
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let end = at + character.len_utf8();
        let next = characters.peek().map(|(_, next)| *next);
        let (ends, marked) = match character {
            '!' | ';' | '\u{2028}' | '\u{2029}' | '。' => (true, true),
            // "? pneumonia" and "effusion (?)" ask within their sentence.
            '?' => (ends_question(&text[start..at], next), true),
            '\n' | '\r' => (!goes_on(text, start, at, lexicon), true),
            // "3.5 cm" and "e.g." go on.
            '.' => (!next.is_some_and(char::is_alphanumeric) && !own_stop(&text[start..at], lexicon), true),
            _ => (false, false),
        };
        if ends {
            push(&mut pieces, &mut section, text, start..end, marked, lexicon);
            start = end;
        }
    }
    push(&mut pieces, &mut section, text, start..text.len(), false, lexicon);
    pieces
}

/// Whether a question mark ends what it asks, and does not stand before it.
fn ends_question(before: &str, next: Option<char>) -> bool {
    before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ')' | '"' | '\''))
        && next.is_none_or(|next| next.is_whitespace() || matches!(next, '?' | '!'))
}

/// Whether a line break is one that an editor made within a sentence.
fn goes_on(text: &str, start: usize, at: usize, lexicon: &Lexicon) -> bool {
    let line_start = text[..at].rfind(['\n', '\r']).map_or(0, |break_at| break_at + 1).max(start);
    let line = text[line_start..at].trim();
    let next = text[at..].strip_prefix("\r\n").or_else(|| text.get(at + 1..)).unwrap_or_default();
    let next = next.strip_prefix('\n').filter(|_| text[at..].starts_with('\r')).unwrap_or(next);
    let Some(first) = next.chars().next().filter(|first| !first.is_whitespace()) else { return false };
    let heads = line.len() <= HEADING && lexicon.heading(&heading_words(line)).is_some();
    if line.is_empty() || heads || line.ends_with([';', '.', '!', '?']) {
        return false;
    }
    // "Ascites:" on a line of its own says nothing; what stands below it does.
    if line.ends_with(':') {
        return line.len() <= HEADING;
    }
    let wrapped = line.chars().take(WRAPPED).count() == WRAPPED;
    let number = next.trim_start_matches(|c: char| c.is_ascii_digit());
    let listed = number.len() < next.len()
        && number.starts_with(['.', ')'])
        && !number[1..].starts_with(|c: char| c.is_ascii_digit());
    let next_line = next.lines().next().unwrap_or_default();
    let headed = next_line.get(..next_line.len().min(HEADING)).is_some_and(|it| it.contains(':'));
    !listed && !headed && (first.is_lowercase() || first.is_ascii_digit() || wrapped && first.is_alphanumeric())
}

/// Whether a full stop belongs to the word before it.
fn own_stop(before: &str, lexicon: &Lexicon) -> bool {
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    // The number of a list's entry is no abbreviation, and neither is a long word.
    word.len() <= 8 && word.chars().any(char::is_alphabetic) && lexicon.is_abbreviation(&word.to_lowercase())
}

fn push(
    pieces: &mut Vec<Piece>,
    section: &mut SectionKind,
    text: &str,
    range: Range<usize>,
    ends: bool,
    lexicon: &Lexicon,
) {
    let mark =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '*' | '#' | '-' | '_' | '•' | '–' | '.' | ':');
    let whole = &text[range.clone()];
    let mut body = whole.trim_start_matches(mark);
    body = unnumbered(body).trim_start_matches(mark);
    let mut of_line = None;
    let colon = body.as_bytes().iter().take(HEADING).position(|byte| *byte == b':');
    if let Some(colon) = colon
        && let Some(kind) = lexicon.heading(&heading_words(&body[..colon]))
    {
        match kind {
            // What stands under the heading of an organ is read with it.
            SectionKind::Organ => *section = findings_or(*section),
            SectionKind::Foreign => of_line = Some(SectionKind::Foreign),
            kind => {
                *section = kind;
                body = body[colon + 1..].trim_start_matches(mark);
            }
        }
    }
    let start = range.start + (whole.len() - body.len());
    let body = body.trim_end();
    // The number of a list entry is no sentence.
    if !body.chars().any(char::is_alphabetic) {
        return;
    }
    let words = heading_words(body.trim_end_matches([':', '*', '#', '_', '.']));
    if body.len() <= HEADING
        && let Some(kind) = lexicon.heading(&words)
        && is_heading_line(text, &(start..start + body.len()))
    {
        *section = match kind {
            SectionKind::Organ => findings_or(*section),
            SectionKind::Foreign => *section,
            kind => kind,
        };
        return;
    }
    pieces.push(Piece { section: of_line.unwrap_or(*section), range: start..start + body.len(), ends });
}

/// The heading of an organ stands below findings, and below an impression that is ordered by organ.
fn findings_or(section: SectionKind) -> SectionKind {
    if section == SectionKind::Impression { section } else { SectionKind::Findings }
}

fn heading_words(words: &str) -> String {
    words.trim_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '#' | '_')).to_lowercase()
}

/// Alone on its line; "Pleura." after a sentence is none.
fn is_heading_line(text: &str, range: &Range<usize>) -> bool {
    let blank = |c: char| c.is_whitespace() || matches!(c, '*' | '#' | '_' | ':');
    let before = text[..range.start].trim_end_matches([' ', '\t', '*', '#', '_', '-']);
    let after = text[range.end..].trim_start_matches(|c: char| blank(c) && c != '\n' && c != '\r');
    let ends_with_stop = text[range.clone()].ends_with('.');
    (before.is_empty() || before.ends_with(['\n', '\r']))
        && (after.is_empty() || after.starts_with(['\n', '\r']))
        && !ends_with_stop
}

/// Takes "1)" and "(2)" away; "1." went with its full stop.
fn unnumbered(body: &str) -> &str {
    let inner = body.strip_prefix('(').unwrap_or(body);
    let digits = inner.len() - inner.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    match inner[digits..].strip_prefix(')') {
        Some(rest) if (1..=2).contains(&digits) => rest,
        _ => body,
    }
}
