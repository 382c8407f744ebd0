//! A template is text from a stranger that a recursive parser reads: how long and how deep it may be is looked at before, and
//! it is read and rendered on a thread whose stack is enough for that.

use std::{
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
    time::Duration,
};

/// Longest template, in bytes. Published ones have up to 30 kB.
const MAX_BYTES: usize = 256 << 10;

/// Most words and signs between two braces. An expression is at most as deep as it is long.
const MAX_TOKENS: usize = 16_384;

/// Most tags. A chain of them is nested as deep as it is long.
const MAX_TAGS: usize = 16_384;

/// Stack of the thread, in bytes; what is not used takes no memory. What may be parsed, and what the fuel allows to be nested
/// while rendering, takes less than half.
const STACK: usize = 256 << 20;

/// Time for a template. The fuel is at its end in less than a second.
const TIME: Duration = Duration::from_secs(20);

/// Refuses what is too long or too deep to be parsed.
///
/// # Errors
/// A sentence that says which bound it is.
pub(super) fn check(source: &str) -> Result<(), String> {
    if source.len() > MAX_BYTES {
        return Err(format!("the template has {} bytes, more than the {MAX_BYTES} that are read", source.len()));
    }
    let (mut tags, mut rest) = (0, source);
    while let Some(begin) = rest.find('{') {
        let inside = &rest[begin + 1..];
        rest = match inside.as_bytes().first() {
            Some(b'#') => inside.split_once("#}").map_or("", |(_, after)| after),
            Some(kind @ (b'{' | b'%')) => {
                tags += 1;
                let (tokens, after) = tag(&inside[1..], if *kind == b'%' { b'%' } else { b'}' });
                if tokens > MAX_TOKENS {
                    let line = source[..source.len() - inside.len()].matches('\n').count() + 1;
                    return Err(format!(
                        "line {line}: an expression of more than {MAX_TOKENS} words and signs; it could be too deep to be read"
                    ));
                }
                after
            }
            _ => inside,
        };
    }
    match tags > MAX_TAGS {
        true => Err(format!("the template has {tags} tags, more than the {MAX_TAGS} that are read")),
        false => Ok(()),
    }
}

/// Words and signs up to the end of a tag (`closing` and a brace), and what comes after it. Braces in texts and those of
/// dictionaries do not end it.
fn tag(text: &str, closing: u8) -> (usize, &str) {
    let bytes = text.as_bytes();
    let (mut tokens, mut at, mut open) = (0, 0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            byte if open == 0 && *byte == closing && bytes.get(at + 1) == Some(&b'}') => {
                return (tokens, &text[at + 2..]);
            }
            b'"' | b'\'' => {
                at += 1;
                while let Some(inside) = bytes.get(at).filter(|inside| *inside != byte) {
                    at += if *inside == b'\\' { 2 } else { 1 };
                }
                at += 1;
                tokens += 1;
            }
            byte if word(*byte) => {
                while bytes.get(at).copied().is_some_and(word) {
                    at += 1;
                }
                tokens += 1;
            }
            byte => {
                match byte {
                    b'{' => open += 1,
                    b'}' => open = open.saturating_sub(1),
                    _ => {}
                }
                tokens += usize::from(!byte.is_ascii_whitespace());
                at += 1;
            }
        }
    }
    (tokens, "")
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Does `work` on a thread of its own, and waits for it as long as a template is worth.
///
/// # Errors
/// A sentence, when it does not come to an end or the thread does.
pub(super) fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (sender, done) = sync_channel(1);
    let begun = thread::Builder::new().name("template".to_owned()).stack_size(STACK).spawn(move || {
        // Nobody listens any more when it took too long.
        let _ = sender.try_send(work());
    });
    begun.map_err(|error| format!("no thread to read the template on: {error}"))?;
    done.recv_timeout(TIME).map_err(|error| match error {
        RecvTimeoutError::Timeout => "the template does not come to an end".to_owned(),
        RecvTimeoutError::Disconnected => "reading the template ended in a defect".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_is_too_deep_is_refused_before_it_is_parsed() {
        let refused = |source: &str, part: &str| {
            let problem = check(source).expect_err(part);
            assert!(problem.contains(part), "{problem}");
        };
        let taken = |source: &str| assert_eq!(check(source), Ok(()), "{}", &source[..source.len().min(60)]);
        for unit in ["not ", "-", "1+", "(", "[", "a.", "a|upper|", "a~", "x if y else ", "f("] {
            refused(&format!("a\n{{{{ {} }}}}", unit.repeat(20_000)), "line 2");
        }
        // What looks like the end of a tag in a text is not.
        refused(&format!("{{{{ '}}}}' ~ \"%}}\" ~ '\\'}}}}' ~ {} 1 }}}}", "not ".repeat(20_000)), "line 1");
        refused(&format!("{{{{ [{{'a': {{'b': 1}}}}] ~ {} 1 }}}}", "not ".repeat(20_000)), "line 1");
        refused(&"{%if a%}".repeat(20_000), "tags");
        refused(&"x".repeat(300_000), "bytes");
        taken(&"x{y} 100% {".repeat(20_000));
        taken(&format!("{{# {} #}}{{{{ a }}}}", "not ".repeat(20_000)));
        taken("{{ {'a': {'b': 1}} }}{% set x = {'a': {}} %}text ".repeat(500).as_str());
        taken("{{ '{{' }}{% raw %}{{ x }}{% endraw %}{% for m in messages %}{{ m['content'] }}{% endfor %}");
    }
}
