//! Choosing tokens: the loop around a decoder.

use std::time::{Duration, Instant};

use crate::{
    answer::{Logits, StoppedBy},
    beam::beam_search,
    constraint::Constraint,
    error::{Error, Result},
    generation::Generation,
    logits::{Processors, argmax, log_normalizer},
};

/// What a decoder says of one sequence.
pub(crate) struct Next {
    /// Scores of the next token, over the vocabulary.
    pub(crate) logits: Vec<f32>,
    /// Attention of the last position over the encoder's features.
    pub(crate) attention: Option<Vec<f32>>,
}

/// A finished sequence.
pub(crate) struct Generated {
    /// Prompt and generated tokens.
    pub(crate) ids: Vec<u32>,
    /// Per generated token.
    pub(crate) logprobs: Vec<f32>,
    /// Per generated token, when the decoder returns it.
    pub(crate) attention: Vec<Vec<f32>>,
    pub(crate) first: Logits,
    pub(crate) stopped_by: StoppedBy,
    /// Whether what was generated is all that its grammar asks for; none without a grammar.
    pub(crate) complete: Option<bool>,
    /// Tokens of the prompt that were not read again.
    pub(crate) reused: usize,
    pub(crate) prefill: Duration,
    pub(crate) decode: Duration,
}

/// Runs the decoder for several sequences at once: which row of the previous call each continues, and its new tokens
/// (as many for each).
pub(crate) type StepFn<'a> = dyn FnMut(&[usize], &[&[u32]]) -> Result<Vec<Next>> + 'a;

/// Chooses a token from processed scores.
pub(crate) type Choose<'a> = Box<dyn FnMut(&mut [f32]) -> Result<usize> + 'a>;

/// What a sequence goes on from.
#[derive(Clone, Copy)]
pub(crate) struct Prompt<'a> {
    /// What it begins with.
    pub(crate) ids: &'a [u32],
    /// What an encoder read of text; the prompt again where there is none, nothing where it read only images.
    pub(crate) read: &'a [u32],
    /// Whether what was generated has one of the texts in it that generation stops at.
    pub(crate) stops: &'a dyn Fn(&[u32]) -> Result<bool>,
    /// What bounds the text that is generated.
    pub(crate) grammar: Option<&'a Constraint>,
}

#[cfg(test)]
impl<'a> Prompt<'a> {
    fn of(ids: &'a [u32]) -> Self {
        Self { ids, read: ids, stops: &|_| Ok(false), grammar: None }
    }
}

/// Chooses tokens as the options say: beams, or one sequence by `choose`.
pub(crate) fn generate(
    options: &Generation,
    prompt: Prompt<'_>,
    choose: Choose<'_>,
    step: &mut StepFn<'_>,
) -> Result<Generated> {
    if options.num_beams > 1 {
        if !options.stop_strings.is_empty() {
            return Err(Error::unsupported(
                "generation option `stop_strings` with beams",
                "stop_strings with one sequence",
                "set `num_beams` to 1 or `stop_strings` to null in the request",
            ));
        }
        return beam_search(options, prompt, step);
    }
    let generated = side_by_side(options, prompt, vec![choose], step)?.pop();
    generated.ok_or_else(|| Error::graph("decoder", "no sequence came back"))
}

/// Longest sequence allowed, when it leaves room after the prompt.
pub(crate) fn room(options: &Generation, prompt: &[u32]) -> Result<usize> {
    let (limit, prompt) = (options.limit(prompt.len()), prompt.len());
    if limit > prompt {
        return Ok(limit);
    }
    Err(Error::Request(format!(
        "max_length {limit} leaves no room after a prompt of {prompt} tokens; raise it or set max_new_tokens"
    )))
}

/// Broken weights or an overflow in reduced precision show as scores that are not numbers; nothing chosen from them
/// means anything.
pub(crate) fn check_scores(logits: &[f32]) -> Result<()> {
    // All of them, because looking for the first is slower.
    if logits.is_empty() || logits.iter().fold(false, |found, score| found | score.is_nan()) {
        return Err(Error::graph("decoder", "the scores are not numbers; weights or precision are broken"));
    }
    Ok(())
}

/// The grammar, where it has a say in the token after `ids`: a special token that an option forces at the start comes
/// before the text.
pub(crate) fn within<'a>(
    grammar: Option<&'a mut Constraint>,
    processors: &Processors<'_>,
    ids: &[u32],
) -> Option<&'a mut Constraint> {
    let forced = processors.forced_first(ids);
    grammar.filter(|grammar| !forced.is_some_and(|token| grammar.is_special(token)))
}

/// The model has no token that its grammar could go on with.
pub(crate) fn nothing_left() -> Error {
    let problem = "output grammar: the model has no token to go on with; its vocabulary cannot write such a text";
    Error::Request(problem.to_owned())
}

/// The best token.
pub(crate) fn greedy<'a>() -> Choose<'a> {
    Box::new(|scores| Ok(argmax(scores)))
}

/// As many sequences as there are ways to choose, which share the prompt and end each on its own.
pub(crate) fn side_by_side(
    options: &Generation,
    prompt: Prompt<'_>,
    mut choices: Vec<Choose<'_>>,
    step: &mut StepFn<'_>,
) -> Result<Vec<Generated>> {
    let limit = room(options, prompt.ids)?;
    let processors = Processors::new(options, prompt.ids.len(), limit).reading(prompt.read);
    let mut sequences: Vec<Generated> = choices.iter().map(|_| Generated::new(prompt.ids)).collect();
    let mut grammars: Vec<Option<Constraint>> = choices.iter().map(|_| prompt.grammar.cloned()).collect();
    let began = Instant::now();
    let mut running: Vec<usize> = (0..sequences.len()).collect();
    let mut next = step(&[0], &[prompt.ids])?;
    let prefill = began.elapsed();
    // After the prompt all sequences continue its one row.
    let mut rows: Vec<usize> = vec![0; running.len()];
    while !running.is_empty() {
        let mut kept = Vec::with_capacity(running.len());
        for (place, index) in running.iter().enumerate() {
            let Some(Next { logits, attention }) = next.get(rows[place]) else {
                return Err(Error::graph("decoder", "no scores came back"));
            };
            let sequence = &mut sequences[*index];
            let grammar = grammars[*index].as_mut();
            sequence.extend(&processors, grammar, &mut choices[*index], logits, attention.as_deref())?;
            let stopped = !options.stop_strings.is_empty() && (prompt.stops)(&sequence.ids[prompt.ids.len()..])?;
            if stopped || sequence.ended(options) {
                sequence.stopped_by = StoppedBy::EndOfText;
            } else if sequence.ids.len() < limit {
                kept.push((place, *index));
            }
        }
        if kept.is_empty() {
            break;
        }
        let continued: Vec<usize> = kept.iter().map(|(place, _)| rows[*place]).collect();
        running = kept.into_iter().map(|(_, index)| index).collect();
        let tokens: Vec<&[u32]> = running.iter().map(|index| sequences[*index].last()).collect();
        next = step(&continued, &tokens)?;
        rows = (0..running.len()).collect();
    }
    let decode = began.elapsed().saturating_sub(prefill);
    for (sequence, grammar) in sequences.iter_mut().zip(&mut grammars) {
        (sequence.prefill, sequence.decode) = (prefill, decode);
        sequence.complete = grammar.as_mut().map(Constraint::is_complete);
    }
    Ok(sequences)
}

impl Generated {
    fn new(prompt: &[u32]) -> Self {
        Self {
            ids: prompt.to_vec(),
            logprobs: Vec::new(),
            attention: Vec::new(),
            first: Logits::default(),
            stopped_by: StoppedBy::Length,
            complete: None,
            reused: 0,
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
        }
    }

    /// Chooses a token and puts it behind the others.
    fn extend(
        &mut self,
        processors: &Processors<'_>,
        grammar: Option<&mut Constraint>,
        choose: &mut Choose<'_>,
        logits: &[f32],
        attention: Option<&[f32]>,
    ) -> Result<()> {
        check_scores(logits)?;
        if self.logprobs.is_empty() {
            self.first = Logits::of(logits);
        }
        let mut scores = logits.to_vec();
        processors.apply(&self.ids, &mut scores);
        let mut grammar = within(grammar, processors, &self.ids);
        if let Some(grammar) = &mut grammar
            && !grammar.bind(logits, &mut scores)?
        {
            return Err(nothing_left());
        }
        let chosen = choose(&mut scores)?;
        #[expect(clippy::cast_possible_truncation, reason = "log-probabilities are reported in single precision")]
        self.logprobs.push((f64::from(logits[chosen]) - log_normalizer(logits)) as f32);
        self.attention.extend(attention.map(<[f32]>::to_vec));
        #[expect(clippy::cast_possible_truncation, reason = "vocabularies are far below 2^32")]
        let token = chosen as u32;
        if let Some(grammar) = grammar {
            grammar.accept(token)?;
        }
        self.ids.push(token);
        Ok(())
    }

    /// Only what was generated can end the text: in many models the start token is the end token.
    fn ended(&self, options: &Generation) -> bool {
        self.ids.last().is_some_and(|last| options.eos_token_id.contains(last))
    }

    fn last(&self) -> &[u32] {
        &self.ids[self.ids.len().saturating_sub(1)..]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A decoder over five tokens that always prefers the successor of the last.
    fn count_up(_: &[usize], rows: &[&[u32]]) -> Result<Vec<Next>> {
        let next = |tokens: &&[u32]| {
            let last = tokens.last().copied().expect("something to read");
            let logits = (0..5).map(|id| if id == (last + 1) % 5 { 1.0 } else { 0.0 }).collect();
            Next { logits, attention: Some(vec![0.5]) }
        };
        Ok(rows.iter().map(next).collect())
    }

    fn run(options: Value, prompt: &[u32]) -> Result<Generated> {
        let Value::Object(mut map) = options else { panic!("an object") };
        map.insert("decoder_start_token_id".into(), 0.into());
        generate(&Generation::new(&map, &Value::Null)?, Prompt::of(prompt), greedy(), &mut count_up)
    }

    #[test]
    fn stops_where_transformers_stops() {
        let check = |options: Value, prompt: &[u32], ids: &[u32], stopped_by: StoppedBy| {
            let generated = run(options, prompt).expect("generates");
            assert_eq!((&generated.ids[..], generated.stopped_by), (ids, stopped_by));
            let new = ids.len() - prompt.len();
            assert_eq!((generated.logprobs.len(), generated.attention.len()), (new, new));
        };
        // The start token is an end token, and does not end anything.
        check(json!({"eos_token_id": [0, 3]}), &[0], &[0, 1, 2, 3], StoppedBy::EndOfText);
        check(json!({"eos_token_id": 3}), &[3], &[3, 4, 0, 1, 2, 3], StoppedBy::EndOfText);
        check(json!({"max_length": 3}), &[0], &[0, 1, 2], StoppedBy::Length);
        check(json!({"max_length": 3, "max_new_tokens": 1}), &[0, 1, 2], &[0, 1, 2, 3], StoppedBy::Length);
        check(json!({"eos_token_id": 2, "min_length": 3}), &[0, 1], &[0, 1, 0, 1, 2], StoppedBy::EndOfText);
    }

    #[test]
    fn refuses_a_prompt_without_room() {
        let error = run(json!({"max_length": 2}), &[0, 1]).map(|_| ()).expect_err("no room").to_string();
        assert!(error.contains("max_length 2") && error.contains("2 tokens"), "{error}");
    }

    #[test]
    fn refuses_scores_that_are_not_numbers() {
        let map = json!({"decoder_start_token_id": 0});
        let options = Generation::new(map.as_object().expect("object"), &Value::Null).expect("valid");
        let mut nan = |_: &[usize], _: &[&[u32]]| Ok(vec![Next { logits: vec![0.0, f32::NAN], attention: None }]);
        assert!(matches!(generate(&options, Prompt::of(&[0]), greedy(), &mut nan), Err(Error::Graph { .. })));
    }

    #[test]
    fn a_grammar_begins_after_a_special_token_that_is_forced() {
        let (vocabulary, end) = crate::constraint::bytes();
        let grammar = vocabulary.constrain(&crate::constraint::Grammar::Regex("ab".to_owned())).expect("a grammar");
        let mut flat = |_: &[usize], rows: &[&[u32]]| {
            Ok(rows.iter().map(|_| Next { logits: vec![0.0; end as usize + 1], attention: None }).collect())
        };
        let mut check = |options: Value, ids: &[u32]| {
            let options = Generation::new(options.as_object().expect("object"), &Value::Null).expect("valid");
            let prompt = Prompt { grammar: Some(&grammar), ..Prompt::of(&[0]) };
            let found = generate(&options, prompt, greedy(), &mut flat).expect("generates");
            assert_eq!((&found.ids[1..], found.complete), (ids, Some(true)), "{options:?}");
        };
        let (a, b) = (u32::from(b'a'), u32::from(b'b'));
        for beams in [1, 3] {
            let options = json!({"num_beams": beams, "eos_token_id": end, "forced_bos_token_id": end - 1});
            check(options, &[end - 1, a, b, end]);
            // One that has text is the grammar's business.
            check(json!({"num_beams": beams, "eos_token_id": end, "forced_bos_token_id": b}), &[a, b, end]);
            check(json!({"num_beams": beams, "eos_token_id": end, "min_length": 9}), &[a, b, end]);
            check(json!({"num_beams": beams, "eos_token_id": end, "suppress_tokens": [a, b]}), &[a, b, end]);
        }
    }

    #[test]
    fn sequences_side_by_side_end_each_on_its_own() {
        let map = json!({"decoder_start_token_id": 0, "eos_token_id": 3, "max_length": 6});
        let options = Generation::new(map.as_object().expect("object"), &Value::Null).expect("valid");
        let mut seen = Vec::new();
        let mut decoder = |rows: &[usize], tokens: &[&[u32]]| {
            seen.push(rows.to_vec());
            count_up(rows, tokens)
        };
        // The second always takes the best but one: with count_up's scores that is token 0, or 1 after 4.
        let worse = |scores: &mut [f32]| Ok(scores.iter().position(|score| *score < 1.0).expect("several"));
        let choices: Vec<Choose<'_>> = vec![greedy(), Box::new(worse), greedy()];
        let found = side_by_side(&options, Prompt::of(&[0, 1]), choices, &mut decoder).expect("generates");
        let ids: Vec<&[u32]> = found.iter().map(|sequence| &sequence.ids[..]).collect();
        assert_eq!(ids, [&[0, 1, 2, 3][..], &[0, 1, 0, 0, 0, 0], &[0, 1, 2, 3]]);
        assert_eq!(found[1].stopped_by, StoppedBy::Length);
        assert_eq!(seen, [vec![0], vec![0, 0, 0], vec![1], vec![0]]);
    }
}
