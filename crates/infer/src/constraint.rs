//! Constrained output: a JSON schema or a regular expression bounds what may be generated, token by token, so that a
//! text that ends by itself is always a valid one. The grammar is llguidance's; this is its seam to our tokenizers.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use llguidance::{
    Matcher, ParserFactory,
    api::TopLevelGrammar,
    toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie},
};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// What generated text has to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// A JSON document that satisfies a schema (JSON Schema 2020-12 and older drafts, within what llguidance supports).
    JsonSchema(Value),
    /// Text that as a whole matches a regular expression (syntax of Rust's `regex`, without look-around).
    Regex(String),
}

/// A model's tokens as the bytes they add to a text: made once for a model, shared by its constraints.
#[derive(Clone)]
pub(crate) struct Vocabulary {
    factory: Arc<ParserFactory>,
    tokens: Arc<Tokens>,
}

/// What a constraint has to know of the tokens beside their bytes.
struct Tokens {
    ends: Vec<u32>,
    /// They add nothing to a text.
    special: HashSet<u32>,
    size: usize,
}

/// One text on its way through a grammar. A copy goes its own way from there, as beams and samples do.
pub(crate) struct Constraint {
    matcher: Matcher,
    tokens: Arc<Tokens>,
}

impl Vocabulary {
    /// The tokens of a tokenizer, for a model that scores `size` of them and ends its text with one of `ends`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a tokenizer whose tokens are not pieces of text, [`Error::Request`] without an end.
    pub(crate) fn new(tokenizer: &Tokenizer, size: usize, ends: &[u32]) -> Result<Self> {
        let ends: Vec<u32> = ends.iter().copied().filter(|end| (*end as usize) < size).collect();
        let [first, ..] = ends[..] else {
            let problem = "constrained output needs an end token; set eos_token_id in generation_config.json";
            return Err(Error::Request(problem.to_owned()));
        };
        let words = words(tokenizer, size, &ends)?;
        let count = u32::try_from(size).map_err(|_| Error::Request(format!("a vocabulary of {size} tokens")))?;
        let trie = TokTrie::from(&TokRxInfo::new(count, first), &words).with_eos_tokens(&ends);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment).map_err(|error| grammar_error(&error))?;
        factory.quiet();
        let added = tokenizer.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        Ok(Self { factory: Arc::new(factory), tokens: Arc::new(Tokens { ends, special, size }) })
    }

    /// The beginning of a text bound by a grammar.
    ///
    /// # Errors
    /// [`Error::Request`] when the grammar is malformed, or asks for what llguidance does not support; the message says
    /// what.
    pub(crate) fn constrain(&self, grammar: &Grammar) -> Result<Constraint> {
        let grammar = match grammar {
            Grammar::JsonSchema(schema) => TopLevelGrammar::from_json_schema(bounded(schema)?),
            Grammar::Regex(expression) => TopLevelGrammar::from_regex(expression),
        };
        let parser = self.factory.create_parser(grammar).map_err(|error| grammar_error(&error))?;
        let matcher = Matcher::new(Ok(parser));
        match matcher.get_error() {
            Some(error) => Err(grammar_error(&error)),
            None => Ok(Constraint { matcher, tokens: Arc::clone(&self.tokens) }),
        }
    }
}

impl Constraint {
    /// Leaves of processed scores those of tokens that the text can go on with. Where processing left none of these (an
    /// end token before `min_length`, a repeated n-gram that the grammar asks for), the option gives way: they get their
    /// `raw` scores. What comes back is whether any token is left.
    ///
    /// # Errors
    /// [`Error::Request`] when the grammar needs more memory or time than it may.
    pub(crate) fn bind(&mut self, raw: &[f32], processed: &mut [f32]) -> Result<bool> {
        let some = |scores: &[f32]| scores.iter().any(|score| *score > f32::NEG_INFINITY);
        self.mask(processed)?;
        if some(processed) {
            return Ok(true);
        }
        processed.copy_from_slice(raw);
        self.mask(processed)?;
        Ok(some(processed))
    }

    /// Takes every token away that the text cannot go on with; the end tokens stay where it may end.
    fn mask(&mut self, scores: &mut [f32]) -> Result<()> {
        let allowed = self.matcher.compute_mask_or_eos().map_err(|error| grammar_error(&error))?;
        for (id, score) in scores.iter_mut().enumerate() {
            if id >= self.tokens.size || !allowed.get(id) {
                *score = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// Whether a token adds nothing to a text: forced before the text, it is none of the grammar's business.
    pub(crate) fn is_special(&self, token: u32) -> bool {
        self.tokens.special.contains(&token)
    }

    /// Goes on with a token. An end token changes nothing.
    ///
    /// # Errors
    /// [`Error::Request`] for a token that [`Constraint::bind`] took away.
    pub(crate) fn accept(&mut self, token: u32) -> Result<()> {
        if self.tokens.ends.contains(&token) {
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(|error| grammar_error(&error))
    }

    /// Whether the text so far is valid as a whole. Where it is not when generation stops, `max_new_tokens` cut it.
    pub(crate) fn is_complete(&mut self) -> bool {
        // A parser that cannot go on at all has stopped because its text was complete.
        self.matcher.is_accepting().unwrap_or(false)
            || (self.matcher.is_stopped() && self.matcher.stop_reason().is_ok())
    }
}

impl Clone for Constraint {
    fn clone(&self) -> Self {
        Self { matcher: self.matcher.deep_clone(), tokens: Arc::clone(&self.tokens) }
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").field("tokens", &self.tokens.size).finish_non_exhaustive()
    }
}

fn grammar_error(error: &dyn fmt::Display) -> Error {
    // Only the first line: the others are the library's own state.
    let words = error.to_string();
    Error::Request(format!("output grammar: {}", words.lines().next().unwrap_or_default()))
}

/// The schema, with at most one space after a comma or a colon where it says nothing else: white space without end
/// would satisfy any schema and never be a document.
fn bounded(schema: &Value) -> Result<Value> {
    let mut schema = match schema {
        Value::Object(map) => Value::Object(map.clone()),
        Value::Bool(true) => json!({}),
        other => {
            return Err(Error::Request(format!("output grammar: the JSON schema is {other}; expected an object")));
        }
    };
    if schema["x-guidance"].is_null() {
        schema["x-guidance"] = json!({"whitespace_flexible": false, "item_separator": ", ?", "key_separator": ": ?"});
    }
    Ok(schema)
}

/// How a tokenizer's decoder makes text of its tokens.
#[derive(Default)]
struct Decoding {
    byte_level: bool,
    byte_fallback: bool,
    /// What is written in place of what.
    replace: Vec<(String, String)>,
}

impl Decoding {
    fn of(tokenizer: &Tokenizer) -> Result<Self> {
        let decoder = serde_json::to_value(tokenizer.get_decoder()).unwrap_or_default();
        let mut decoding = Self::default();
        let steps = match decoder["decoders"].as_array() {
            Some(steps) => steps.clone(),
            None => vec![decoder],
        };
        for step in &steps {
            match step["type"].as_str() {
                Some("ByteLevel") => decoding.byte_level = true,
                Some("ByteFallback") => decoding.byte_fallback = true,
                Some("Metaspace") => {
                    let space = step["replacement"].as_str().unwrap_or("\u{2581}");
                    decoding.replace.push((space.to_owned(), " ".to_owned()));
                }
                Some("Replace") if step["pattern"]["String"].is_string() => {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    decoding.replace.push((text(&step["pattern"]["String"]), text(&step["content"])));
                }
                // They join tokens, or take away the space before the first one.
                Some("Fuse" | "Strip") => {}
                other => {
                    return Err(Error::unsupported(
                        format!("constrained output with a tokenizer that decodes by {}", other.unwrap_or("nothing")),
                        "ByteLevel, ByteFallback, Metaspace and Replace",
                        "ask for free text, or choose another model",
                    ));
                }
            }
        }
        Ok(decoding)
    }

    fn bytes(&self, token: &str, byte_of: &HashMap<char, u8>) -> Vec<u8> {
        if self.byte_level {
            let bytes: Option<Vec<u8>> = token.chars().map(|character| byte_of.get(&character).copied()).collect();
            return bytes.unwrap_or_else(|| token.as_bytes().to_vec());
        }
        let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')).filter(|digits| digits.len() == 2);
        if self.byte_fallback
            && let Some(byte) = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok())
        {
            return vec![byte];
        }
        self.replace.iter().fold(token.to_owned(), |text, (from, to)| text.replace(from, to)).into_bytes()
    }
}

/// The bytes of every token; none for one that adds nothing to a text.
fn words(tokenizer: &Tokenizer, size: usize, ends: &[u32]) -> Result<Vec<Vec<u8>>> {
    let decoding = Decoding::of(tokenizer)?;
    let byte_of = bytes_of_characters();
    let mut words = vec![Vec::new(); size];
    for (token, id) in tokenizer.get_vocab(false) {
        if let Some(word) = words.get_mut(id as usize) {
            *word = decoding.bytes(&token, &byte_of);
        }
    }
    let special = |text: &str| [&[TokTrie::SPECIAL_TOKEN_MARKER], text.as_bytes()].concat();
    for (id, token) in tokenizer.get_added_tokens_decoder() {
        if let Some(word) = words.get_mut(id as usize) {
            *word = if token.special { special(&token.content) } else { token.content.into_bytes() };
        }
    }
    for end in ends {
        words[*end as usize] = special(&format!("<end {end}>"));
    }
    // A token of no bytes would go on for ever without writing anything; llguidance leaves those out.
    Ok(words)
}

/// The characters that stand for bytes in byte-level vocabularies: printable ones for themselves, the others from
/// U+0100 on (GPT-2's table).
fn bytes_of_characters() -> HashMap<char, u8> {
    let printable = |byte: u8| (33..=126).contains(&byte) || (161..=172).contains(&byte) || byte >= 174;
    let mut other = 0x100u32;
    (0..=u8::MAX)
        .filter_map(|byte| {
            let character = if printable(byte) {
                char::from(byte)
            } else {
                other += 1;
                char::from_u32(other - 1)?
            };
            Some((character, byte))
        })
        .collect()
}

/// Tokens of one byte each, two special ones, and the last of these as the end: for tests of what a grammar bounds.
#[cfg(test)]
pub(crate) fn bytes() -> (Vocabulary, u32) {
    let characters = bytes_of_characters();
    let vocabulary: serde_json::Map<String, Value> =
        characters.into_iter().map(|(character, byte)| (character.to_string(), byte.into())).collect();
    let special = |id: u32| {
        json!({"id": id, "content": format!("<{id}>"), "special": true, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false})
    };
    let text = json!({"version": "1.0", "added_tokens": [special(256), special(257)],
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []}, "decoder": {"type": "ByteLevel",
        "add_prefix_space": false, "trim_offsets": false, "use_regex": false}});
    let tokenizer = Tokenizer::from_bytes(text.to_string().as_bytes()).expect("a tokenizer");
    (Vocabulary::new(&tokenizer, 258, &[257]).expect("a vocabulary"), 257)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{Rng, SeedableRng},
    };

    use super::*;
    use crate::logits::argmax;

    /// A byte-level tokenizer with one token per byte, some longer ones, and the end as the last.
    fn tokenizer() -> Tokenizer {
        let mut vocabulary: serde_json::Map<String, Value> =
            bytes_of_characters().into_iter().map(|(character, byte)| (character.to_string(), byte.into())).collect();
        for (id, token) in (256..).zip(["{\"", "\":", "true", "finding", "\u{120}no", "\"}"]) {
            vocabulary.insert(token.to_owned(), id.into());
        }
        let model = json!({"type": "BPE", "vocab": vocabulary, "merges": []});
        let end = json!({"id": 262, "content": "</s>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
        let text = json!({"version": "1.0", "added_tokens": [end], "model": model, "decoder": {"type": "ByteLevel",
            "add_prefix_space": false, "trim_offsets": false, "use_regex": false}})
        .to_string();
        Tokenizer::from_bytes(text.as_bytes()).expect("a tokenizer")
    }

    /// Text of a model that scores at random; none when `limit` tokens did not end it.
    fn babble(
        vocabulary: &Vocabulary,
        grammar: &Grammar,
        tokenizer: &Tokenizer,
        seed: u64,
        limit: usize,
    ) -> Option<String> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut constraint = vocabulary.constrain(grammar).expect("a grammar");
        let mut ids = Vec::new();
        for _ in 0..limit {
            let mut scores: Vec<f32> =
                (0..vocabulary.tokens.size).map(|_| f32::from(random.next_u32().to_le_bytes()[0])).collect();
            constraint.mask(&mut scores).expect("masks");
            let best = argmax(&scores);
            assert!(scores[best] > f32::NEG_INFINITY, "something is allowed");
            let id = u32::try_from(best).expect("small");
            if vocabulary.tokens.ends.contains(&id) {
                assert!(constraint.is_complete());
                return Some(tokenizer.decode(&ids, true).expect("decodes"));
            }
            constraint.accept(id).expect("was allowed");
            ids.push(id);
        }
        None
    }

    fn schema() -> Grammar {
        Grammar::JsonSchema(json!({
            "type": "object", "additionalProperties": false, "required": ["finding", "certain", "side"],
            "properties": {
                "finding": {"type": "string", "maxLength": 12}, "certain": {"type": "boolean"},
                "side": {"enum": ["left", "right", "\u{e9}"]}, "sizes": {"type": "array", "maxItems": 3, "items": {"type": "integer", "minimum": 0, "maximum": 99}},
            },
        }))
    }

    /// What ends by itself is valid, whatever the model would say.
    fn check(tokenizer: &Tokenizer, size: usize, ends: &[u32]) {
        let vocabulary = Vocabulary::new(tokenizer, size, ends).expect("a vocabulary");
        let mut ended = 0;
        for seed in 0..20 {
            if let Some(text) = babble(&vocabulary, &schema(), tokenizer, seed, 400) {
                let value: Value =
                    serde_json::from_str(text.trim_start()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
                assert!(value["finding"].as_str().is_some_and(|text| text.chars().count() <= 12), "{text}");
                assert!(value["certain"].is_boolean(), "{text}");
                assert!(["left", "right", "\u{e9}"].contains(&value["side"].as_str().unwrap_or_default()), "{text}");
                ended += 1;
            }
            let expression = Grammar::Regex("(no|small|large) (effusion|nodule)( [0-9]{1,3} mm)?\\.".to_owned());
            if let Some(text) = babble(&vocabulary, &expression, tokenizer, seed, 100) {
                let text = text.trim_start();
                assert!(
                    text.starts_with("no ") || text.starts_with("small ") || text.starts_with("large "),
                    "{text:?}"
                );
                assert!(text.ends_with('.'), "{text:?}");
                ended += 1;
            }
        }
        assert!(ended > 20, "most end within the limit: {ended} of 40");
    }

    #[test]
    fn whatever_ends_is_valid() {
        check(&tokenizer(), 263, &[262]);
        // A model that scores more tokens than its tokenizer has.
        check(&tokenizer(), 300, &[262]);
    }

    #[test]
    fn the_tokenizers_of_the_reference_models_are_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vlm");
        if !root.exists() {
            println!("skipped: {} is not here", root.display());
            return;
        }
        let mut count = 0;
        for family in std::fs::read_dir(&root).expect("readable") {
            let folder = family.expect("readable").path();
            let Ok(options) = std::fs::read_to_string(folder.join("generation_config.json")) else { continue };
            let options: Value = serde_json::from_str(&options).expect("JSON");
            let ends: Vec<u32> = match &options["eos_token_id"] {
                Value::Array(_) => serde_json::from_value(options["eos_token_id"].clone()).expect("ids"),
                id => vec![u32::try_from(id.as_u64().expect("an id")).expect("small")],
            };
            let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json")).expect("a tokenizer");
            check(&tokenizer, tokenizer.get_vocab_size(true), &ends);
            count += 1;
        }
        assert!(count > 0, "the reference has tokenizers");
    }

    #[test]
    fn a_text_cut_short_is_told_from_a_complete_one() {
        let vocabulary = Vocabulary::new(&tokenizer(), 263, &[262]).expect("a vocabulary");
        let mut constraint = vocabulary.constrain(&Grammar::Regex("ab?".to_owned())).expect("a grammar");
        assert!(!constraint.is_complete());
        constraint.accept(u32::from(b'a')).expect("allowed");
        assert!(constraint.is_complete());
        let mut copy = constraint.clone();
        copy.accept(u32::from(b'b')).expect("allowed");
        assert!(copy.is_complete());
        let mut scores = vec![0.0; 263];
        copy.mask(&mut scores).expect("masks");
        assert_eq!(argmax(&scores), 262, "only the end is left");
        assert!(constraint.accept(u32::from(b'c')).is_err());
    }

    #[test]
    fn options_give_way_to_the_grammar() {
        let vocabulary = Vocabulary::new(&tokenizer(), 263, &[262]).expect("a vocabulary");
        let banned = |kept: &[usize]| -> Vec<f32> {
            (0..263).map(|id| if kept.contains(&id) { 0.0 } else { f32::NEG_INFINITY }).collect()
        };
        let raw: Vec<f32> = (0..263).map(|id| if id == 262 { 3.0 } else { 1.0 }).collect();
        let check = |before: &str, processed: &[usize], expected: &[usize]| {
            let mut constraint = vocabulary.constrain(&Grammar::Regex("ab?".to_owned())).expect("a grammar");
            before.bytes().for_each(|byte| constraint.accept(u32::from(byte)).expect("allowed"));
            let mut scores = banned(processed);
            assert!(constraint.bind(&raw, &mut scores).expect("binds"));
            let left: Vec<usize> = (0..263).filter(|id| scores[*id] > f32::NEG_INFINITY).collect();
            assert_eq!(left, expected, "after {before:?}, of {processed:?}");
        };
        let (a, b, end) = (usize::from(b'a'), usize::from(b'b'), 262);
        check("", &[a, b, end], &[a]);
        // The end was taken away (min_length), and there is something else to say; and then there is not.
        check("a", &[a, b], &[b]);
        check("ab", &[a, b], &[end]);
        // What the grammar asks for was taken away (a repeated n-gram, a suppressed token).
        check("", &[b, end], &[a]);
        // An end that is forced ends what may end, and nothing else.
        check("a", &[end], &[end]);
        check("", &[end], &[a]);
        assert!(vocabulary.constrain(&Grammar::Regex("a".to_owned())).expect("a grammar").is_special(262));

        // A model that cannot write what it is asked for.
        let mut scores = vec![0.0; 97];
        let mut constraint = vocabulary.constrain(&Grammar::Regex("b".to_owned())).expect("a grammar");
        assert!(!constraint.bind(&[0.0; 97], &mut scores).expect("binds"));
    }

    #[test]
    fn says_what_is_wrong_with_a_grammar() {
        let vocabulary = Vocabulary::new(&tokenizer(), 263, &[262]).expect("a vocabulary");
        let check = |grammar: Grammar| {
            let error = vocabulary.constrain(&grammar).expect_err("refused").to_string();
            assert!(error.contains("output grammar") && error.lines().count() == 1, "{error}");
        };
        check(Grammar::Regex("(".to_owned()));
        check(Grammar::JsonSchema(json!({"type": "no such type"})));
        check(Grammar::JsonSchema(json!(3)));
        assert!(
            Vocabulary::new(&tokenizer(), 263, &[])
                .err()
                .is_some_and(|error| error.to_string().contains("eos_token_id"))
        );
    }
}
