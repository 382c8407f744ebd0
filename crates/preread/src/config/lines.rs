//! Where in the file a section and its keys stand.

/// The sections of a file with the lines of their keys, both counted from 1.
#[derive(Default)]
pub(super) struct Lines(Vec<Section>);

struct Section {
    /// `listen` of `[listen]`, `rule` of `[[rule]]`, `rule.checks` of `[rule.checks]`.
    name: String,
    /// Which of its name, from 0.
    index: usize,
    line: usize,
    keys: Vec<(String, usize)>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let mut sections: Vec<Section> = Vec::new();
        for (line, written) in (1..).zip(text.lines()) {
            if let Some(name) = header(written) {
                let index = sections.iter().filter(|it| it.name == name).count();
                sections.push(Section { name: name.to_owned(), index, line, keys: Vec::new() });
            } else if let Some((section, key)) = sections.last_mut().zip(key(written)) {
                section.keys.push((key.to_owned(), line));
            }
        }
        Self(sections)
    }

    /// Whether a key is written.
    pub(super) fn has(&self, section: &str, index: usize, key: &str) -> bool {
        let section = self.0.iter().find(|it| it.name == section && it.index == index);
        section.is_some_and(|section| section.keys.iter().any(|(name, _)| name == key))
    }

    /// The line of a key, or else of its section's header.
    pub(super) fn at(&self, section: &str, index: usize, key: &str) -> Option<usize> {
        let section = self.0.iter().find(|it| it.name == section && it.index == index)?;
        let key = section.keys.iter().find(|(name, _)| name == key);
        Some(key.map_or(section.line, |(_, line)| *line))
    }
}

/// The name of a section that begins on this line.
pub(super) fn header(line: &str) -> Option<&str> {
    let inside = line.trim_start().strip_prefix('[')?;
    let inside = inside.strip_prefix('[').unwrap_or(inside);
    let name = inside.split(']').next()?.trim();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    (!name.is_empty() && name.chars().all(plain) && inside.contains(']')).then_some(name)
}

/// The key that a statement on this line sets.
pub(super) fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim().trim_matches('"');
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    (!key.is_empty() && key.chars().all(plain)).then_some(key)
}
