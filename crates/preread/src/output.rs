//! What commands write. Nothing that came from elsewhere (a file's name, a peer's words) reaches a terminal raw, and a
//! reader that has gone, as `head` does, ends a command quietly.

use std::{
    fmt::{self, Write as _},
    io::{self, Write, stderr, stdout},
    path::Path,
};

use anyhow::{Context, Result};

/// Nobody reads standard output any more: no failure, and nothing more to do.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more")]
pub(crate) struct Closed;

// These stand in place of the standard library's in the whole crate: they do not panic when nobody reads, and they pass
// nothing on that a terminal obeys.
macro_rules! println {
    () => { $crate::output::say(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::say(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! print {
    ($($text:tt)*) => { $crate::output::say(format_args!($($text)*)) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::output::remark(format_args!($($text)*)) };
}

/// Text on standard output. When nobody reads it any more there is nobody to tell, and that is no failure.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    let _ = document(&harmless(&text.to_string()));
}

/// A text of our own, as it is. Errors with [`Closed`] when nobody reads it.
pub(crate) fn document(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        done => done.context("standard output"),
    }
}

/// A line on standard error; if nobody reads that, nobody can be told.
pub(crate) fn remark(text: fmt::Arguments<'_>) {
    let _ = stderr().lock().write_all((harmless(&text.to_string()) + "\n").as_bytes());
}

/// JSON in which a terminal finds no control character either: `serde_json` escapes those below 32 alone.
pub(crate) fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        // Line ends are the layout of the document; those in texts are escaped already.
        if is_harmful(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

/// A text of several lines without anything that a terminal obeys.
pub(crate) fn harmless(text: &str) -> String {
    escaped(text, |c| is_harmful(c) && !matches!(c, '\n' | '\t'))
}

/// A text of one line without anything that a terminal obeys, and without anything that could be taken for another line.
pub(crate) fn one_line(text: &str) -> String {
    escaped(text, is_harmful)
}

/// A path for a person, on one line.
pub(crate) fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

fn escaped(text: &str, harmful: impl Fn(char) -> bool) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if harmful(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// What a terminal obeys, or what turns the order of letters round.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let check = |given: &str, line: &str, lines: &str, document: &str| {
            assert_eq!(one_line(given), line);
            assert_eq!(harmless(given), lines);
            assert_eq!(json(given), document);
        };
        check("plain é 王.dcm", "plain é 王.dcm", "plain é 王.dcm", "plain é 王.dcm");
        check("a\u{1b}[2J", r"a\u{1b}[2J", r"a\u{1b}[2J", r"a\u001b[2J");
        check("a\u{1b}]0;x\u{7}", r"a\u{1b}]0;x\u{7}", r"a\u{1b}]0;x\u{7}", r"a\u001b]0;x\u0007");
        check("a\nb", r"a\nb", "a\nb", "a\nb");
        check("\u{9b}2J\u{7f}", r"\u{9b}2J\u{7f}", r"\u{9b}2J\u{7f}", r"\u009b2J\u007f");
        check("fdp.\u{202e}mcd", r"fdp.\u{202e}mcd", r"fdp.\u{202e}mcd", r"fdp.\u202emcd");
        check("\rforged", r"\rforged", r"\rforged", r"\u000dforged");
    }
}
