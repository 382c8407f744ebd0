//! Text to token ids and back, and which token made which piece of the text.

use std::{ops::Range, path::PathBuf};

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::{
    bundle::{Bundle, read_optional_json},
    error::{Error, Result},
};

/// A model's tokenizer (`tokenizer.json`).
pub(crate) struct Text {
    path: PathBuf,
    tokenizer: Tokenizer,
    clean_up: bool,
}

impl Text {
    pub(crate) fn load(bundle: &Bundle) -> Result<Self> {
        let path = bundle.folder.join("tokenizer.json");
        let tokenizer = Tokenizer::from_file(&path)
            .map_err(|error| Error::bundle(&path, format!("not a readable tokenizer: {error}")))?;
        let config = read_optional_json(&bundle.folder.join("tokenizer_config.json"))?;
        let clean_up = config.as_ref().and_then(|config| config.get("clean_up_tokenization_spaces"));
        Ok(Self { path, tokenizer, clean_up: clean_up == Some(&Value::Bool(true)) })
    }

    /// Token ids of a text, without the special tokens a tokenizer would put around it.
    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode(text, false)
            .map_err(|error| Error::Request(format!("the prompt cannot be tokenized: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of token ids, special tokens left out.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String> {
        let text = self
            .tokenizer
            .decode(ids, true)
            .map_err(|error| Error::bundle(&self.path, format!("generated tokens cannot be decoded: {error}")))?;
        Ok(if self.clean_up { clean_up(&text) } else { text })
    }

    /// Text of all of `ids`, and for each from `start` on the bytes of it that token accounts for.
    ///
    /// A character may take several tokens: it belongs to the one that completes it, the others have an empty range at
    /// its first byte. The ranges are in order and together cover the text after the first `start` tokens.
    pub(crate) fn decode_pieces(&self, ids: &[u32], start: usize) -> Result<(String, Vec<Range<usize>>)> {
        let text = self.decode(ids)?;
        // Decoders look at their neighbours (a leading space, a contraction), so each prefix is decoded whole.
        let mut ranges = Vec::with_capacity(ids.len().saturating_sub(start));
        let mut from = if start == 0 { 0 } else { common_prefix(&text, &self.decode(&ids[..start])?) };
        for end in start + 1..=ids.len() {
            let to = if end == ids.len() { text.len() } else { common_prefix(&text, &self.decode(&ids[..end])?) };
            let to = to.max(from);
            ranges.push(from..to);
            from = to;
        }
        Ok((text, ranges))
    }
}

/// Bytes two texts begin with in common, in whole characters.
fn common_prefix(left: &str, right: &str) -> usize {
    let different = left.char_indices().zip(right.chars()).find(|((_, l), r)| l != r);
    different.map_or(left.len().min(right.len()), |((at, _), _)| at)
}

/// `clean_up_tokenization` of Transformers.
fn clean_up(text: &str) -> String {
    const RULES: [(&str, &str); 10] = [
        (" .", "."),
        (" ?", "?"),
        (" !", "!"),
        (" ,", ","),
        (" ' ", "'"),
        (" n't", "n't"),
        (" 'm", "'m"),
        (" 's", "'s"),
        (" 've", "'ve"),
        (" 're", "'re"),
    ];
    RULES.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte-level tokenizer with one token per byte: id = byte value, 256 is special.
    fn bytes() -> Text {
        // GPT-2's table: printable bytes stand for themselves, the others for characters from U+0100 on.
        let printable = |byte: u32| (33..=126).contains(&byte) || (161..=172).contains(&byte) || byte >= 174;
        let mut other = 256;
        let vocabulary: serde_json::Map<String, Value> = (0..256)
            .map(|byte| {
                let code = if printable(byte) {
                    byte
                } else {
                    other += 1;
                    other - 1
                };
                (char::from_u32(code).expect("valid").to_string(), byte.into())
            })
            .collect();
        let special = serde_json::json!({"id": 256, "content": "<end>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true});
        let level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true});
        let json = serde_json::json!({"version": "1.0", "added_tokens": [special], "pre_tokenizer": level,
            "decoder": level, "model": {"type": "BPE", "vocab": vocabulary, "merges": []}});
        let tokenizer = Tokenizer::from_bytes(json.to_string()).expect("valid tokenizer");
        Text { path: PathBuf::new(), tokenizer, clean_up: false }
    }

    #[test]
    fn a_token_accounts_for_the_characters_it_completes() {
        let check = |ids: &[u32], start: usize, text: &str, pieces: &[&str]| {
            let (decoded, ranges) = bytes().decode_pieces(ids, start).expect("decodes");
            assert_eq!(decoded, text);
            let found: Vec<&str> = ranges.into_iter().map(|range| &decoded[range]).collect();
            assert_eq!(found, pieces);
        };
        check(&[], 0, "", &[]);
        check(&[97, 98], 0, "ab", &["a", "b"]);
        check(&[256, 97, 256], 1, "a", &["a", ""]);
        // é is two bytes, € three; a lone continuation byte is a replacement character.
        check(&[97, 0xc3, 0xa9, 98], 0, "aéb", &["a", "", "é", "b"]);
        check(&[0xe2, 0x82, 0xac], 1, "€", &["", "€"]);
        check(&[0xa9, 97], 0, "\u{fffd}a", &["\u{fffd}", "a"]);
    }

    #[test]
    fn prompts_go_through_without_special_tokens() {
        assert_eq!(bytes().encode("é ").expect("encodes"), [0xc3, 0xa9, 0x20]);
    }

    #[test]
    fn cleans_up_as_transformers_does() {
        assert_eq!(clean_up("no effusion . it 's , well"), "no effusion. it's, well");
    }
}
