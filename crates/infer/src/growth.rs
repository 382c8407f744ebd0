//! How much longer a tokenizer may make a text. Its file comes with a model: a few rules that each put many letters in place
//! of one make gigabytes of a word, so what they could do is counted before any is applied.

use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// How many times longer the rules before the tokens may make a prompt. Published tokenizers stay below 200.
const MOST_OF_A_PROMPT: usize = 1024;

/// Bytes of text that one token may stand for. In published tokenizers the longest stands for some hundred spaces.
const MOST_OF_A_TOKEN: usize = 64 << 10;

/// Refuses a tokenizer that could make much of little.
///
/// # Errors
/// [`Error::Bundle`] naming the part of it.
pub(crate) fn check(path: &Path, tokenizer: &Tokenizer) -> Result<()> {
    let of = |part: serde_json::Result<Value>| part.map_or(1, |rules| growth(&rules));
    let before = of(serde_json::to_value(tokenizer.get_normalizer()));
    if before > MOST_OF_A_PROMPT {
        return Err(refused(path, format!("its normalizer could make a prompt {before} times as long")));
    }
    let longest = tokenizer.get_vocab(true).keys().map(String::len).max().unwrap_or(0);
    let text = longest.saturating_mul(of(serde_json::to_value(tokenizer.get_decoder())));
    if text > MOST_OF_A_TOKEN {
        return Err(refused(path, format!("its decoder could make {text} bytes of one token")));
    }
    Ok(())
}

fn refused(path: &Path, what: String) -> Error {
    Error::bundle(path, format!("{what}, which no tokenizer in use does; copy it again from the model's source"))
}

/// How many times longer a rule, or rules one after the other, may make a text at most, by what the file itself brings.
/// Unicode's own forms are not counted: they make a letter longer once, and only so much.
fn growth(rule: &Value) -> usize {
    let children = ["normalizers", "decoders"].into_iter().filter_map(|key| rule.get(key)?.as_array()).flatten();
    let chained = children.map(growth).fold(1, usize::saturating_mul);
    let own = match rule.get("type").and_then(Value::as_str) {
        Some("Replace") => replacement(rule),
        Some("Prepend") => 1 + rule["prepend"].as_str().map_or(0, str::len),
        Some("WordPiece") => 1 + rule["prefix"].as_str().map_or(0, str::len),
        Some("Precompiled") => longest_form(rule["precompiled_charsmap"].as_str().unwrap_or_default()),
        _ => 1,
    };
    chained.saturating_mul(own)
}

fn replacement(rule: &Value) -> usize {
    let content = rule["content"].as_str().map_or(0, str::len);
    match rule["pattern"]["String"].as_str() {
        Some(text) if !text.is_empty() => content.div_ceil(text.len()).max(1),
        // It may match between any two letters.
        _ => content.saturating_add(1),
    }
}

/// The longest form that SentencePiece's table has for a letter: the table is a trie, whose length comes first, and forms that
/// each end with a zero.
fn longest_form(table: &str) -> usize {
    let bytes = of_base64(table);
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return 1 };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let forms = rest.get(length..).unwrap_or(rest);
    forms.split(|byte| *byte == 0).map(<[u8]>::len).max().unwrap_or(1).max(1)
}

/// Bytes of a text in base64, as far as it is one. The tokenizer has refused what is none.
fn of_base64(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let six: Vec<u8> = text.bytes().map_while(value).collect();
    let three = |four: &[u8]| {
        let at = |index: usize| four.get(index).copied().unwrap_or(0);
        let bytes = [at(0) << 2 | at(1) >> 4, at(1) << 4 | at(2) >> 2, at(2) << 6 | at(3)];
        bytes.into_iter().take(four.len().saturating_sub(1))
    };
    six.chunks(4).flat_map(three).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_longest_form_of_a_letter_is_found() {
        assert_eq!(of_base64("Zm9vYmE="), b"fooba");
        // A trie of four bytes, and the forms "ab" and "cdefg".
        assert_eq!(longest_form("BAAAAAAAAABhYgBjZGVmZwA="), 5);
    }

    #[test]
    fn a_tokenizer_that_makes_much_of_little_is_refused() {
        let check = |normalizer: Value, decoder: Value, vocabulary: Value, part: Option<&str>| {
            let file = json!({"version": "1.0", "added_tokens": [], "normalizer": normalizer, "decoder": decoder,
                "model": {"type": "BPE", "vocab": vocabulary, "merges": []}});
            let tokenizer = Tokenizer::from_bytes(file.to_string()).expect("a tokenizer");
            match (check(Path::new("tokenizer.json"), &tokenizer), part) {
                (Ok(()), None) => {}
                (Err(error), Some(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, part) => panic!("{found:?} instead of {part:?}"),
            }
        };
        let replace =
            |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
        let (one, ten) = (json!({"String": "a"}), "a".repeat(10));
        let decoders = |count: usize| json!({"type": "Sequence", "decoders": vec![replace(one.clone(), &ten); count]});
        let normalizers =
            |count: usize| json!({"type": "Sequence", "normalizers": vec![replace(one.clone(), &ten); count]});
        let few = json!({"a": 0});
        check(Value::Null, Value::Null, few.clone(), None);
        check(Value::Null, decoders(4), few.clone(), None);
        check(Value::Null, decoders(5), few.clone(), Some("decoder could make 100000 bytes"));
        check(Value::Null, decoders(40), few.clone(), Some("decoder"));
        check(normalizers(3), Value::Null, few.clone(), None);
        check(normalizers(4), Value::Null, few.clone(), Some("normalizer could make a prompt 10000 times"));
        check(replace(json!({"Regex": "b*"}), &"c".repeat(2000)), Value::Null, few.clone(), Some("normalizer"));
        check(replace(json!({"String": " "}), "\u{2581}"), replace(json!({"String": "\u{2581}"}), " "), few, None);
        let long = "x".repeat(100_000);
        check(Value::Null, Value::Null, json!({long: 0}), Some("decoder could make 100000 bytes"));
    }
}
