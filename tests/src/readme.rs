//! What a page tells a reader to type, so that a test can type it.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

/// A fenced block of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// What stands behind the opening fence: `sh`, `json`, `lua`, `text`.
    pub language: String,
    /// The line of the opening fence, from 1.
    pub line: usize,
    /// The text between the fences, without the indentation of the fence.
    pub text: String,
}

/// Every fenced block of a Markdown file, in order.
///
/// # Errors
/// When the file cannot be read, a fence has no language, or the last one is not closed.
pub fn blocks(markdown: &Path) -> Result<Vec<Block>> {
    let text = fs::read_to_string(markdown).with_context(|| format!("cannot read {}", markdown.display()))?;
    let (mut blocks, mut open): (Vec<Block>, Option<(Block, usize)>) = (Vec::new(), None);
    for (number, line) in (1..).zip(text.lines()) {
        let indent = line.len() - line.trim_start().len();
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, None) => {}
            (None, Some("")) => bail!("line {number} opens a block of code and does not say its language"),
            (None, Some(language)) => {
                let block = Block { language: language.trim().to_owned(), line: number, text: String::new() };
                open = Some((block, indent));
            }
            (Some(_), Some(_)) => blocks.extend(open.take().map(|(block, _)| block)),
            (Some((block, indent)), None) => {
                block.text += line.get(*indent..).unwrap_or_default();
                block.text.push('\n');
            }
        }
    }
    if let Some((block, _)) = open {
        bail!("the block of code of line {} is not closed", block.line);
    }
    Ok(blocks)
}
