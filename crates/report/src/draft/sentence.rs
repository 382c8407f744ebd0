//! The cleaning of sentences that are shown as they stand.

/// Characters of a sentence that is shown as it stands; a model that never ends a sentence is cut here.
const SHOWN: usize = 1_000;

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
