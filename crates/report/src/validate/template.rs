//! The content tree against the rows of its templates, which stand in `templates.txt`.

use std::sync::LazyLock;

use dataset::tags;

use super::{
    Violations,
    content::{children, name, value_type},
};
use crate::elements::DataSet;

/// A row of a template.
#[derive(Debug, Clone)]
struct Row {
    depth: usize,
    relationship: &'static str,
    value_type: &'static str,
    /// Code values; see `templates.txt`.
    names: Vec<&'static str>,
    least: usize,
    most: usize,
    below: Vec<Row>,
}

impl Row {
    fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|known| if name.is_empty() { *known == "-" } else { *known == "*" || *known == name })
    }

    /// Whether it names this concept, rather than any.
    fn means(&self, name: &str) -> bool {
        !name.is_empty() && self.names.contains(&name)
    }

    fn takes(&self, item: &DataSet) -> bool {
        item.plain(tags::RELATIONSHIP_TYPE) == self.relationship
            && value_type(item) == self.value_type
            && self.has_name(name(item))
    }
}

/// The templates, each with its identifier.
static TEMPLATES: LazyLock<Vec<(&'static str, Vec<Row>)>> = LazyLock::new(|| read(include_str!("templates.txt")));

/// Reads `templates.txt`, which is part of the program.
fn read(text: &'static str) -> Vec<(&'static str, Vec<Row>)> {
    let mut blocks: Vec<(&'static str, Vec<Row>)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&'static str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["template" | "fragment", identifier] => blocks.push((identifier, Vec::new())),
            [depth, "include", fragment] => {
                let rows = blocks.iter().find(|(name, _)| name == fragment).map(|(_, rows)| rows.clone());
                let deeper = |row: Row| Row { depth: row.depth + depth.len() - 1, ..row };
                if let Some((_, block)) = blocks.last_mut() {
                    block.extend(rows.unwrap_or_default().into_iter().map(deeper));
                }
            }
            [depth, relationship, value_type, names, times] => {
                let row = row(depth.len(), relationship, value_type, names, times);
                blocks.last_mut().into_iter().for_each(|(_, rows)| rows.push(row.clone()));
            }
            _ => {}
        }
    }
    let nested = blocks.into_iter().map(|(identifier, rows)| (identifier, nest(&mut rows.into_iter().peekable(), 1)));
    nested.collect()
}

fn row(
    depth: usize,
    relationship: &'static str,
    value_type: &'static str,
    names: &'static str,
    times: &'static str,
) -> Row {
    let relationship = match relationship {
        "mod" => "HAS CONCEPT MOD",
        "obs" => "HAS OBS CONTEXT",
        "inferred" => "INFERRED FROM",
        "selected" => "SELECTED FROM",
        _ => "CONTAINS",
    };
    let least = usize::from(times.starts_with('1'));
    let most = if times.ends_with('n') { usize::MAX } else { 1 };
    Row { depth, relationship, value_type, names: names.split('|').collect(), least, most, below: Vec::new() }
}

/// Flat rows with their depths as a tree.
fn nest(rows: &mut std::iter::Peekable<std::vec::IntoIter<Row>>, depth: usize) -> Vec<Row> {
    let mut nested: Vec<Row> = Vec::new();
    while let Some(next) = rows.peek() {
        if next.depth < depth {
            break;
        }
        if next.depth > depth {
            let below = nest(rows, depth + 1);
            nested.last_mut().into_iter().for_each(|row| row.below.clone_from(&below));
        } else {
            nested.extend(rows.next());
        }
    }
    nested
}

/// Checks an item, which is the root of a template, and all below it. `strict`: an item that no row has is an error.
pub(super) fn check(item: &DataSet, identifier: &str, at: &str, strict: bool, found: &mut Violations) {
    if let Some((_, rows)) = TEMPLATES.iter().find(|(known, _)| *known == identifier) {
        check_rows(item, rows, at, strict, found);
    }
}

fn check_rows(parent: &DataSet, rows: &[Row], at: &str, strict: bool, found: &mut Violations) {
    let mut counts = vec![0_usize; rows.len()];
    for (number, child) in children(parent).iter().enumerate() {
        let at = format!("{at}.{}", number + 1);
        let by_reference = child.get(tags::REFERENCED_CONTENT_ITEM_IDENTIFIER).is_some();
        // A row that names the concept goes before one that takes any.
        let named = rows.iter().position(|row| row.takes(child) && row.means(name(child)));
        match named.or_else(|| rows.iter().position(|row| row.takes(child))) {
            Some(row) => {
                counts[row] += 1;
                let group = group_template(child);
                match group {
                    Some(template) => check(child, template, &at, strict, found),
                    None => check_rows(child, &rows[row].below, &at, strict, found),
                }
            }
            None if by_reference => {}
            None => {
                let contradicted = rows.iter().any(|row| row.means(name(child)));
                if contradicted || strict {
                    let sentence = if contradicted {
                        "an item that its template has with another relationship or value type (PS3.16)"
                    } else {
                        "an item that its template does not have (PS3.16)"
                    };
                    found.breach("template-row", &at, sentence);
                }
            }
        }
    }
    for (row, count) in rows.iter().zip(counts) {
        let what = row.names.first().copied().unwrap_or("");
        if count < row.least {
            found.breach("template-row", at, format!("without {} {what}, which its template asks for", row.value_type));
        }
        if count > row.most {
            found.breach("template-row", at, format!("{} {what} more than once", row.value_type));
        }
    }
}

/// The template of a measurement group: the one it names, else TID 1410 where it has a region of its own.
fn group_template(item: &DataSet) -> Option<&'static str> {
    if name(item) != super::content::MEASUREMENT_GROUP || value_type(item) != "CONTAINER" {
        return None;
    }
    let named =
        item.items(tags::CONTENT_TEMPLATE_SEQUENCE).first().map_or("", |it| it.plain(tags::TEMPLATE_IDENTIFIER));
    let region = children(item).iter().any(|child| value_type(child) == "SCOORD" && name(child) == "111030");
    Some(if named == "1410" || (named.is_empty() && region) { "1410" } else { "1501" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_read_as_they_stand() {
        let names: Vec<&str> = TEMPLATES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["observer", "algorithm", "language", "2000", "1500", "1410", "1501", "2010"]);
        let (_, report) = &TEMPLATES[3];
        assert_eq!((report[0].names[0], report[0].least, report[0].below.len()), ("121049", 1, 1));
        let (_, group) = TEMPLATES.iter().find(|(name, _)| *name == "1410").unwrap();
        let number = group.iter().find(|row| row.value_type == "NUM").unwrap();
        assert!(number.below.iter().any(|row| row.means("111001")), "{number:?}");
        // Every line that is no comment is understood.
        let rows = include_str!("templates.txt").lines().filter(|line| line.starts_with('>'));
        assert!(rows.clone().count() > 60);
        for line in rows {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(words.len() == 5 || (words.len() == 3 && words[1] == "include"), "{line}");
            if let [_, relationship, _, _, times] = words.as_slice() {
                assert!(["contains", "mod", "obs", "inferred", "selected"].contains(relationship), "{line}");
                assert!(["1", "0-1", "1-n", "0-n"].contains(times), "{line}");
            }
        }
    }
}
