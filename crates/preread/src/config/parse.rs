//! The file as it is written: every mistake at once, with its line, in words.
//!
//! The parser stops at its first mistake. What is mistaken is taken out then, or what is missing put in, and the rest is
//! parsed again, so that the next one shows.

use std::collections::BTreeSet;

use super::{
    File,
    lines::{header, key},
};

/// So many mistakes are told at once.
const MOST: usize = 32;

/// What was found in a file.
pub(super) struct Parsed {
    /// The file without its mistakes; nothing where no file is left.
    pub(super) file: Option<File>,
    /// Each mistake, with its line.
    pub(super) errors: Vec<String>,
    /// Sections with mistakes, by name: what is found wrong in them besides may follow from those.
    pub(super) damaged: BTreeSet<String>,
}

/// Parses the text.
pub(super) fn parse(text: &str) -> Parsed {
    // Each line with the number that it has in the file.
    let mut lines: Vec<(usize, String)> = (1..).zip(text.lines().map(str::to_owned)).collect();
    let (mut errors, mut damaged) = (Vec::new(), BTreeSet::new());
    while errors.len() < MOST {
        let written: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
        let written = written.join("\n") + "\n";
        let error = match toml::from_str::<File>(&written) {
            Ok(file) => return Parsed { file: Some(file), errors, damaged },
            Err(error) => error,
        };
        let missing = error.message().strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let at = error.span().map(|span| place(&written, span.start));
        let at = at.filter(|_| missing.is_none_or(|key| !SECTIONS.contains(&key)));
        errors.push(told(&error, at, &lines));
        let Some((line, _)) = at else {
            // A whole section is missing.
            match missing.and_then(stand_in) {
                Some(put) => lines.extend(put.lines().map(|line| (0, line.to_owned()))),
                None => break,
            }
            continue;
        };
        let begin = (0..=line).rev().find(|at| header(&lines[*at].1).is_some());
        // A value that a section cannot do without gives way to one that can stand there: nothing is missing then, and what
        // else is wrong in the section still shows. Others may refer to a name.
        let mistaken = key(&lines[line].1).filter(|key| missing.is_none() && *key != "name");
        if let Some(put) = mistaken.and_then(stand_in).filter(|put| *put != lines[line].1) {
            lines[line].1 = put.to_owned();
            continue;
        }
        damaged.extend(
            begin.and_then(|at| header(&lines[at].1)).map(|name| name.split('.').next().unwrap_or(name).to_owned()),
        );
        let named = missing.is_none() && key(&lines[line].1) == Some("name");
        if let Some(put) = missing.and_then(stand_in) {
            let number = lines[line].0;
            lines.insert(begin.map_or(0, |at| at + 1), (number, put.to_owned()));
        } else if !take_out(&mut lines, line) {
            break;
        } else if let Some(put) = named.then(|| stand_in("name")).flatten() {
            lines[line].1 = put.to_owned();
        }
    }
    Parsed { file: None, errors, damaged }
}

const SECTIONS: &[&str] = &["listen", "spool"];

/// Something for a key that is missing, so that the rest can be looked at.
fn stand_in(key: &str) -> Option<&'static str> {
    Some(match key {
        "listen" => "[listen]\nae_title = \"PREREAD\"\naddress = \"127.0.0.1:11112\"",
        "spool" => "[spool]\ndir = \"/var/lib/preread\"",
        "ae_title" => "ae_title = \"PREREAD\"",
        "dir" => "dir = \"/var/lib/preread\"",
        "name" => "name = \"without a name\"",
        "path" => "path = \"/\"",
        "model" => "model = \"without a name\"",
        "address" => "address = \"127.0.0.1:1\"",
        "certificate" => "certificate = \"/\"",
        "key" => "key = \"/\"",
        "client_ca" => "client_ca = \"/\"",
        _ => return None,
    })
}

/// Line and column of a byte, from 0.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..byte.min(text.len())];
    let line = before.matches('\n').count();
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count())
}

/// Takes out the statement or the section that a line belongs to; false when there is nothing left of it.
fn take_out(lines: &mut [(usize, String)], at: usize) -> bool {
    let at = at.min(lines.len().saturating_sub(1));
    let is_empty = |line: &str| line.trim().is_empty();
    if let Some(name) = lines.get(at).and_then(|(_, line)| header(line)).map(str::to_owned) {
        let of_section = |line: &str| header(line).is_none_or(|other| other.starts_with(&format!("{name}.")));
        lines[at].1.clear();
        lines[at + 1..].iter_mut().take_while(|(_, line)| of_section(line)).for_each(|(_, line)| line.clear());
        return true;
    }
    let first = (0..=at).rev().find(|line| key(&lines[*line].1).is_some() || header(&lines[*line].1).is_some());
    let first = first.filter(|line| header(&lines[*line].1).is_none()).unwrap_or(at);
    let mut open = 0_i32;
    let mut changed = false;
    for (index, (_, line)) in lines.iter_mut().enumerate().skip(first) {
        // A value that is not closed ends with its section.
        if index > at && (open <= 0 || header(line).is_some()) {
            break;
        }
        open += brackets(line);
        changed |= !is_empty(line);
        line.clear();
    }
    changed
}

/// Brackets that a line opens, less those that it closes, outside of quotes and comments.
fn brackets(line: &str) -> i32 {
    let (mut open, mut quote) = (0, None);
    for letter in line.chars() {
        match (quote, letter) {
            (None, '"' | '\'') => quote = Some(letter),
            (Some(begun), _) if begun == letter => quote = None,
            (Some(_), _) => {}
            (None, '#') => break,
            (None, '[' | '{') => open += 1,
            (None, ']' | '}') => open -= 1,
            _ => {}
        }
    }
    open
}

/// A mistake with its line, as compilers show it.
fn told(error: &toml::de::Error, at: Option<(usize, usize)>, lines: &[(usize, String)]) -> String {
    let message = words(error.message());
    let found = at.and_then(|(line, column)| Some((lines.get(line)?, column)));
    let Some(((number, line), column)) = found else { return message };
    let margin = " ".repeat(number.to_string().len());
    let length = error.span().map_or(1, |span| span.len()).clamp(1, line.chars().count().saturating_sub(column).max(1));
    let (space, carets) = (" ".repeat(column), "^".repeat(length));
    format!(
        "line {number}, column {}\n{margin} |\n{number} | {line}\n{margin} | {space}{carets}\n{message}",
        column + 1
    )
}

/// What the parser says in words of Rust, in ours.
pub(super) fn words(message: &str) -> String {
    if let Some(key) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return format!("`{key}` is missing");
    }
    if let Some((found, known)) = listed(message, "unknown field `") {
        return format!("there is no key `{found}` here; there are {known}");
    }
    if let Some((found, known)) = listed(message, "unknown variant `") {
        return format!("`{found}` is not known here; write {known}");
    }
    let mut text = message.to_owned();
    if let Some((found, expected)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "))
    {
        let wanted = match expected {
            "a sequence" if found == "map" => {
                return "one section is here, and there may be several: write its name in double brackets, such as [[rule]]".to_owned();
            }
            "a sequence" => "a list is wanted, such as [\"a\", \"b\"]",
            "a string" | "string" | "path string" | "a formatted path string" => "text in quotes is wanted",
            "a boolean" => "true or false is wanted",
            "usize" | "u64" | "u32" | "u16" | "u8" | "i64" | "i32" => "a whole number is wanted",
            "f64" | "f32" => "a number is wanted",
            "socket address" => "an address and a port are wanted, such as \"127.0.0.1:11112\"",
            "a map" => "a section is wanted",
            other if other.starts_with("struct ") => "a section is wanted",
            other if other.starts_with("an array of length 2") => "two numbers are wanted, such as [4, 4]",
            other => other,
        };
        let found = found
            .replace("string ", "the text ")
            .replace("integer ", "the number ")
            .replace("floating point ", "the number ");
        let found = found.replace("boolean ", "").replace("sequence", "a list").replace("map", "a section");
        text = format!("{wanted}, and here is {found}");
    } else if let Some((found, _)) =
        message.strip_prefix("invalid value: ").and_then(|rest| rest.rsplit_once(", expected "))
    {
        text = format!("{found} is no number that fits here").replace("integer ", "");
    } else if message.contains("invalid socket address syntax") {
        text = "an address and a port are wanted, such as \"127.0.0.1:11112\"".to_owned();
    } else if message.starts_with("invalid length ") {
        text = "two numbers are wanted, such as [4, 4]".to_owned();
    }
    text
}

/// What was found and what there is, of a message that lists it.
fn listed<'a>(message: &'a str, begin: &str) -> Option<(&'a str, &'a str)> {
    let (found, rest) = message.strip_prefix(begin)?.split_once("`, ")?;
    Some((found, rest.trim_start_matches("expected ").trim_start_matches("one of ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_told_at_once_with_its_line_and_in_words() {
        let text = "[listen]\nae_title = \"PREREAD\"\naddress = \"127.0.0.1\"\nmax_associations = \"many\"\n[spool]\ndir = 5\n\
                    [study]\nquiet_period = \"soon\"\n[rule]\nname = \"a\"\n[[destination]]\nname = \"pacs\"\nobjects = [\n \
                    \"text-sr\",\n \"letter\",\n]\n[sutdy]\nquiet_period = \"1s\"\n[[peer]]\nname = \"ct\"\naddress = \"10.1.2.3\"\n\
                    [log]\nlevel = \n";
        let parsed = parse(text);
        let all = parsed.errors.join("\n---\n");
        for part in [
            "line 3, column 11",
            "an address and a port are wanted",
            "line 4",
            "a whole number is wanted, and here is the text \"many\"",
            "line 6",
            "text in quotes is wanted, and here is the number `5`",
            "line 8",
            "soon",
            "[[rule]]",
            "`ae_title` is missing",
            "line 15",
            "`letter` is not known here; write `text-sr`",
            "there is no key `sutdy` here",
            "a list is wanted",
            "line 23",
        ] {
            assert!(all.contains(part), "{part:?} is not told:\n{all}");
        }
        // What is there with a value that will not do is not missing too.
        assert!(!all.contains("`dir` is missing"), "{all}");
        let mistaken = parse("[listen]\nae_title = \"\"\naddress = \"127.0.0.1:1\"\n[spool]\ndir = \"/s\"\n");
        assert!(mistaken.errors.len() == 1 && mistaken.damaged.is_empty(), "{:?}", mistaken.errors);
        for rust in ["usize", "struct", "sequence", "variant", "field"] {
            assert!(!all.contains(rust), "{rust:?} is told:\n{all}");
        }
        assert!(parsed.file.is_some(), "{all}");
    }
}
