//! Text to token ids and back, and which token made which piece of the text.

use std::{ops::Range, path::PathBuf};

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::{
    bundle::Bundle,
    constraint::Vocabulary,
    error::{Error, Result},
    foreign::shown,
    growth,
};

/// A model's tokenizer (`tokenizer.json`) and what `tokenizer_config.json` says of its special tokens.
pub(crate) struct Text {
    path: PathBuf,
    tokenizer: Tokenizer,
    clean_up: bool,
    config: Value,
    /// Contents of the special tokens.
    special: Vec<String>,
}

/// Whether a text is cleaned up where the tokenizer says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    CleanedUp,
    /// A text that a grammar bounds is what the grammar allowed.
    AsWritten,
}

impl Text {
    pub(crate) fn load(bundle: &Bundle) -> Result<Self> {
        let path = bundle.folder.join("tokenizer.json");
        let mut tokenizer = Tokenizer::from_file(&path).map_err(|error| {
            let problem = shown(&error.to_string());
            Error::bundle(&path, format!("not a readable tokenizer: {problem}; copy it again from the model's source"))
        })?;
        growth::check(&path, &tokenizer)?;
        // What was set when the file was saved is no part of the tokenizer: callers cut and pad as they need.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| Error::bundle(&path, format!("its truncation cannot be taken off: {error}")))?;
        let mut config = bundle.json("tokenizer_config.json")?;
        // Older folders name special tokens in a file of their own.
        if let (Some(config), Value::Object(map)) = (config.as_object_mut(), bundle.json("special_tokens_map.json")?) {
            for (name, token) in map {
                if config.get(&name).is_none_or(Value::is_null) {
                    config.insert(name, token);
                }
            }
        }
        Ok(Self::new(path, tokenizer, config))
    }

    fn new(path: PathBuf, tokenizer: Tokenizer, config: Value) -> Self {
        let clean_up = config.get("clean_up_tokenization_spaces") == Some(&Value::Bool(true));
        let added = tokenizer.get_added_tokens_decoder();
        let special = added.values().filter(|token| token.special).map(|token| token.content.clone()).collect();
        Self { path, tokenizer, clean_up, config, special }
    }

    /// Token ids of a text; with `special` those that the tokenizer puts around it as well.
    pub(crate) fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode(text, special)
            .map_err(|error| Error::Request(format!("the prompt cannot be tokenized: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Token ids of a prompt. The special tokens around it come from the tokenizer, unless the prompt has them already.
    pub(crate) fn encode_prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        let begun = self.named("bos_token").is_some_and(|bos| !bos.is_empty() && prompt.starts_with(&bos));
        self.encode(prompt, !begun)
    }

    /// Text of token ids, special tokens left out.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String> {
        self.read(ids, Reading::CleanedUp)
    }

    /// Text of token ids, special tokens left out.
    pub(crate) fn read(&self, ids: &[u32], reading: Reading) -> Result<String> {
        let text = self.raw(ids, true)?;
        Ok(if self.clean_up && reading == Reading::CleanedUp { clean_up(&text) } else { text })
    }

    /// Text of token ids with their special tokens.
    pub(crate) fn decode_with_special(&self, ids: &[u32]) -> Result<String> {
        self.raw(ids, false)
    }

    fn raw(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        self.tokenizer
            .decode(ids, skip_special)
            .map_err(|error| Error::bundle(&self.path, format!("generated tokens cannot be decoded: {error}")))
    }

    /// The token of an id.
    pub(crate) fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The id of a token.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// A special token by the name of its role, such as `image_token` or `bos_token`.
    pub(crate) fn named(&self, role: &str) -> Option<String> {
        let places = [
            Some(&self.config),
            self.config.get("extra_special_tokens"),
            self.config.get("model_specific_special_tokens"),
        ];
        let stated = places.into_iter().flatten().find_map(|place| place.get(role).filter(|token| !token.is_null()))?;
        stated.as_str().or_else(|| stated.get("content")?.as_str()).map(str::to_owned)
    }

    /// The longest text the model takes, in tokens (`model_max_length`), where that is a real limit.
    pub(crate) fn longest(&self) -> Option<usize> {
        let stated = self.config.get("model_max_length")?.as_u64()?;
        usize::try_from(stated).ok().filter(|length| (1..1_000_000).contains(length))
    }

    /// Whether a text has been through a chat template: it has special tokens in it, which nobody types.
    pub(crate) fn is_rendered(&self, text: &str) -> bool {
        self.special.iter().any(|token| !token.trim().is_empty() && text.contains(token.as_str()))
    }

    /// As many tokens as its ids go up to.
    pub(crate) fn vocabulary_size(&self) -> usize {
        self.tokenizer.get_vocab(true).values().max().map_or(0, |last| *last as usize + 1)
    }

    /// The tokens as pieces of text, for a model that scores `size` of them and ends with one of `ends`.
    ///
    /// # Errors
    /// As [`Vocabulary::new`].
    pub(crate) fn vocabulary(&self, size: usize, ends: &[u32]) -> Result<Vocabulary> {
        Vocabulary::new(&self.tokenizer, size, ends)
    }

    /// Refuses a tokenizer whose ordinary tokens are more than the model has.
    ///
    /// # Errors
    /// [`Error::Bundle`] with both numbers.
    pub(crate) fn check_vocabulary(&self, model: usize) -> Result<()> {
        let tokens = self.tokenizer.get_vocab_size(false);
        if tokens <= model {
            return Ok(());
        }
        Err(Error::bundle(
            &self.path,
            format!(
                "it has {tokens} tokens and the model's vocabulary {model}: it is another model's; copy the right one"
            ),
        ))
    }

    /// Text of all of `ids`, and for each from `start` on the bytes of it that token accounts for.
    ///
    /// A character may take several tokens: it belongs to the one that completes it, the others have an empty range at
    /// its first byte. The ranges are in order and together cover the text after the first `start` tokens.
    pub(crate) fn decode_pieces(
        &self,
        ids: &[u32],
        start: usize,
        reading: Reading,
    ) -> Result<(String, Vec<Range<usize>>)> {
        let text = self.read(ids, reading)?;
        let ends = match self.ends_by_window(ids, start, &text, reading)? {
            Some(ends) => ends,
            None => self.ends_by_prefix(ids, start, &text, reading)?,
        };
        let mut from = if start == 0 { 0 } else { common_prefix(&text, &self.read(&ids[..start], reading)?) };
        let mut ranges = Vec::with_capacity(ends.len());
        for end in ends {
            let to = end.max(from);
            ranges.push(from..to);
            from = to;
        }
        if let Some(last) = ranges.last_mut() {
            last.end = text.len();
        }
        Ok((text, ranges))
    }

    /// Where each token ends, from each whole prefix: right for every decoder, and quadratic.
    fn ends_by_prefix(&self, ids: &[u32], start: usize, text: &str, reading: Reading) -> Result<Vec<usize>> {
        (start + 1..=ids.len()).map(|end| Ok(common_prefix(text, &self.read(&ids[..end], reading)?))).collect()
    }

    /// Where each token ends, looking only at the tokens around it; none when that does not add up to the text.
    fn ends_by_window(&self, ids: &[u32], start: usize, text: &str, reading: Reading) -> Result<Option<Vec<usize>>> {
        // Decoders look at their neighbours (a leading space, a contraction): so many tokens before are decoded along.
        const BEFORE: usize = 4;
        if ids.len() - start < 4 * BEFORE {
            return Ok(None);
        }
        let mut ends = Vec::with_capacity(ids.len() - start);
        let mut at = if start == 0 { 0 } else { common_prefix(text, &self.read(&ids[..start], reading)?) };
        // The first token of the window that is not yet in the text before `at`.
        let mut pending = start;
        for end in start + 1..=ids.len() {
            let from = pending.saturating_sub(BEFORE);
            let (before, with) = (self.read(&ids[from..pending], reading)?, self.read(&ids[from..end], reading)?);
            let Some(piece) = with.strip_prefix(before.as_str()) else { return Ok(None) };
            // A character that is not complete decodes to a replacement, which a later token takes back.
            if piece.ends_with('\u{fffd}') && end < ids.len() && end - pending < 4 {
                ends.push(at);
                continue;
            }
            if !text[at..].starts_with(piece) {
                return Ok(None);
            }
            at += piece.len();
            ends.push(at);
            pending = end;
        }
        Ok((at == text.len()).then_some(ends))
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
        Text::new(PathBuf::new(), tokenizer, Value::Null)
    }

    #[test]
    fn a_token_accounts_for_the_characters_it_completes() {
        let check = |ids: &[u32], start: usize, text: &str, pieces: &[&str]| {
            let (decoded, ranges) = bytes().decode_pieces(ids, start, Reading::CleanedUp).expect("decodes");
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
        assert_eq!(bytes().encode("é ", false).expect("encodes"), [0xc3, 0xa9, 0x20]);
    }

    #[test]
    fn cleans_up_as_transformers_does() {
        assert_eq!(clean_up("no effusion . it 's , well"), "no effusion. it's, well");
    }
}
