//! `docs/BENCHMARKS.md`: a chapter for each benchmark, replaced when that benchmark is run again.

use std::fs;

use anyhow::{Context, Result};
use e2e::place;

/// Puts a chapter, which begins with its `# ` heading, in the place of the one of the same heading, else at the end.
///
/// # Errors
/// When the document cannot be read or written.
pub(crate) fn write(chapter: &str) -> Result<()> {
    let path = place::root().join("docs/BENCHMARKS.md");
    let before = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    fs::write(&path, with_chapter(&before, chapter)).with_context(|| format!("writing {}", path.display()))
}

fn with_chapter(document: &str, chapter: &str) -> String {
    let heading = chapter.lines().next().unwrap_or_default();
    let mut chapters = chapters(document);
    match chapters.iter_mut().find(|old| old.lines().next() == Some(heading)) {
        Some(old) => *old = chapter,
        None => chapters.push(chapter),
    }
    chapters.iter().map(|chapter| format!("{}\n", chapter.trim_end())).collect::<Vec<_>>().join("\n")
}

fn chapters(document: &str) -> Vec<&str> {
    let later = document.match_indices("\n# ").map(|(at, _)| at + 1);
    let starts: Vec<usize> = std::iter::once(0).chain(later).collect();
    let ends = starts[1..].iter().copied().chain([document.len()]);
    starts.iter().zip(ends).map(|(start, end)| &document[*start..end]).filter(|it| !it.trim().is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chapter_takes_the_place_of_its_elder() {
        let check = |before: &str, chapter: &str, after: &str| assert_eq!(with_chapter(before, chapter), after);
        check("", "# A\n\none\n", "# A\n\none\n");
        check("# A\n\none\n", "# A\n\ntwo\n\n", "# A\n\ntwo\n");
        check("# A\n\n## part\n\n# B\nb\n", "# C\nc\n", "# A\n\n## part\n\n# B\nb\n\n# C\nc\n");
        check("# A\na\n\n# B\nb\n\n# C\nc\n", "# B\nnew\n", "# A\na\n\n# B\nnew\n\n# C\nc\n");
    }
}
