//! Words that others wrote (a template, ONNX Runtime, a library over a model's file), as they may stand on a terminal or in a
//! log.

/// Longest of them, in characters.
const MOST: usize = 600;

/// Longest of them where our own advice follows.
const MOST_BEFORE_ADVICE: usize = 400;

/// A text on one line and without anything that a terminal obeys: controls, escapes and marks of direction are written as
/// their code. What is too long is cut.
pub(crate) fn shown(text: &str) -> String {
    shown_up_to(MOST, text)
}

/// [`shown`], shorter, so that our own words fit behind it.
pub(crate) fn shown_before_advice(text: &str) -> String {
    shown_up_to(MOST_BEFORE_ADVICE, text)
}

fn shown_up_to(most: usize, text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    for (count, character) in text.trim().chars().enumerate() {
        if count == most {
            out.push('…');
            break;
        }
        match character {
            '\n' | '\r' | '\t' => out.push(' '),
            character if obeyed(character) => out.extend(character.escape_unicode()),
            character => out.push(character),
        }
    }
    out
}

fn obeyed(character: char) -> bool {
    let directs = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || directs
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn nothing_in_foreign_words_is_obeyed() {
        let check = |text: &str, expected: &str| assert_eq!(shown(text), expected);
        check("roles must alternate", "roles must alternate");
        check(" Ärzte:\n\tCR \u{1b}[2J\u{7}", "Ärzte:  CR \\u{1b}[2J\\u{7}");
        check("\u{9b}31m\u{202e}txt", "\\u{9b}31m\\u{202e}txt");
        assert_eq!(shown(&"x".repeat(10_000)).chars().count(), 601);
    }
}
