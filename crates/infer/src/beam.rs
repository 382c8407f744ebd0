//! Beam search for one image, after Transformers' `_beam_search`: several sequences side by side, the best by
//! length-normalised log-probability in the end.

use std::time::Instant;

use crate::{
    answer::{Logits, StoppedBy},
    constraint::Constraint,
    error::Result,
    generate::{Generated, Next, Prompt, StepFn, check_scores, nothing_left, room, within},
    generation::{EarlyStopping, Generation},
    logits::{Processors, log_softmax},
};

/// Transformers' stand-in for minus infinity: finite, so that sums of it still have an order.
const WORST: f32 = -1.0e9;

/// What a text that its grammar has not done with is worth: less than any whole one, more than none.
const CUT: f32 = WORST / 2.0;

/// A generated token and the one before it in its sequence.
struct Node {
    parent: Option<usize>,
    logprob: f32,
    /// Index into the attention rows kept.
    attention: Option<usize>,
}

#[derive(Clone)]
struct Beam {
    ids: Vec<u32>,
    node: Option<usize>,
    /// Sum of processed log-probabilities; normalised by length once finished.
    score: f32,
    /// Which of the running sequences it continues.
    parent: usize,
    finished: bool,
    /// It is all that its grammar asks for.
    complete: bool,
}

struct Search<'a> {
    options: &'a Generation,
    processors: Processors<'a>,
    prompt: usize,
    limit: usize,
    nodes: Vec<Node>,
    attention: Vec<Vec<f32>>,
    running: Vec<Beam>,
    /// How far each of the running sequences is in the grammar; empty without one.
    grammars: Vec<Constraint>,
    /// The best so far, best first; placeholders with the worst score until enough have finished.
    best: Vec<Beam>,
    /// A running sequence may still overtake the finished ones.
    improvable: bool,
}

/// Beam search with `num_beams` of the options. `step` runs the decoder over tokens it has not seen.
pub(crate) fn beam_search(options: &Generation, prompt: Prompt<'_>, step: &mut StepFn<'_>) -> Result<Generated> {
    let limit = room(options, prompt.ids)?;
    let began = Instant::now();
    let mut steps = step(&[0], &[prompt.ids])?;
    let prefill = began.elapsed();
    let first = steps.first().map(|step| Logits::of(&step.logits)).unwrap_or_default();
    let mut search = Search::new(options, prompt, limit);
    loop {
        let mut candidates = search.expand(&mut steps)?;
        let ended: Vec<bool> = candidates.iter().map(|candidate| search.ends(candidate)).collect();
        search.complete(&mut candidates, &ended)?;
        search.keep_finished(&candidates, &ended);
        search.keep_running(candidates, &ended)?;
        if !search.goes_on(&ended) {
            break;
        }
        // After the prompt all sequences continue its one row.
        let rows: Vec<usize> = search.running.iter().map(|beam| beam.parent.min(steps.len() - 1)).collect();
        let tokens: Vec<&[u32]> = search.running.iter().map(|beam| &beam.ids[beam.ids.len() - 1..]).collect();
        steps = step(&rows, &tokens)?;
    }
    let decode = began.elapsed().saturating_sub(prefill);
    let bound = prompt.grammar.is_some();
    let complete = bound.then(|| search.best[0].complete);
    let (ids, logprobs, attention) = search.finish();
    if bound && logprobs.is_empty() {
        return Err(nothing_left());
    }
    let ended = ids.last().is_some_and(|last| options.eos_token_id.contains(last));
    let stopped_by = if ended { StoppedBy::EndOfText } else { StoppedBy::Length };
    Ok(Generated { ids, logprobs, attention, first, stopped_by, complete, reused: 0, prefill, decode })
}

impl<'a> Search<'a> {
    fn new(options: &'a Generation, prompt: Prompt<'a>, limit: usize) -> Self {
        let ids = || prompt.ids.to_vec();
        let beam = |score| Beam { ids: ids(), node: None, score, parent: 0, finished: false, complete: false };
        // Only the first counts at the start: the others say the same, and are not there where a grammar leaves few ways to
        // go on, of which they would take up places.
        let mut running = vec![beam(WORST); if prompt.grammar.is_some() { 1 } else { options.num_beams }];
        running[0].score = 0.0;
        Self {
            options,
            processors: Processors::new(options, prompt.ids.len(), limit).reading(prompt.read),
            prompt: prompt.ids.len(),
            limit,
            nodes: Vec::new(),
            attention: Vec::new(),
            grammars: prompt.grammar.map(|grammar| vec![grammar.clone(); running.len()]).unwrap_or_default(),
            running,
            best: vec![beam(WORST); options.num_beams],
            improvable: true,
        }
    }

    /// The best continuations of all running sequences, best first: enough that as many as there are beams go on even
    /// if every end token takes a place.
    fn expand(&mut self, steps: &mut [Next]) -> Result<Vec<Beam>> {
        let kept = self.attention.len();
        let mut scored: Vec<(f32, usize, usize)> = Vec::new();
        let mut raw: Vec<Vec<f32>> = Vec::with_capacity(steps.len());
        let mut has_attention = !steps.is_empty();
        for step in steps.iter_mut() {
            check_scores(&step.logits)?;
            raw.push(log_softmax(&step.logits));
            has_attention &= step.attention.is_some();
            self.attention.extend(step.attention.take());
        }
        let row_of = |beam: usize| beam.min(raw.len() - 1);
        for (index, beam) in self.running.iter().enumerate() {
            let mut scores = raw[row_of(index)].clone();
            self.processors.apply(&beam.ids, &mut scores);
            if let Some(grammar) = within(self.grammars.get_mut(index), &self.processors, &beam.ids) {
                grammar.bind(&raw[row_of(index)], &mut scores)?;
            }
            scored.extend(scores.into_iter().enumerate().map(|(id, score)| (score + beam.score, index, id)));
        }
        if !self.grammars.is_empty() {
            // What the grammar does not allow must not stand in for a sequence, however few there are.
            scored.retain(|(score, ..)| *score > f32::NEG_INFINITY);
        }
        let count = (self.options.eos_token_id.len() + 1).max(2) * self.options.num_beams;
        let better = |a: &(f32, usize, usize), b: &(f32, usize, usize)| b.0.total_cmp(&a.0);
        if count < scored.len() {
            scored.select_nth_unstable_by(count - 1, better);
            scored.truncate(count);
        }
        scored.sort_by(|a, b| better(a, b).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        let mut candidates = Vec::with_capacity(scored.len());
        for (score, parent, id) in scored {
            let beam = &self.running[parent];
            let row = row_of(parent);
            let attention = has_attention.then_some(kept + row);
            self.nodes.push(Node { parent: beam.node, logprob: raw[row][id], attention });
            let mut ids = beam.ids.clone();
            #[expect(clippy::cast_possible_truncation, reason = "vocabularies are far below 2^32")]
            ids.push(id as u32);
            let node = Some(self.nodes.len() - 1);
            candidates.push(Beam { ids, node, score, parent, finished: false, complete: false });
        }
        Ok(candidates)
    }

    /// How far a candidate is in the grammar.
    fn grammar_of(&mut self, candidate: &Beam) -> Result<Option<Constraint>> {
        let Some(mut grammar) = self.grammars.get(candidate.parent).cloned() else { return Ok(None) };
        if let Some((last, before)) = candidate.ids.split_last()
            && within(Some(&mut grammar), &self.processors, before).is_some()
        {
            grammar.accept(*last)?;
        }
        Ok(Some(grammar))
    }

    /// Says which of the candidates that end are all that the grammar asks for.
    fn complete(&mut self, candidates: &mut [Beam], ended: &[bool]) -> Result<()> {
        for (candidate, _) in candidates.iter_mut().zip(ended).filter(|(_, ended)| **ended) {
            candidate.complete = self.grammar_of(candidate)?.is_some_and(|mut grammar| grammar.is_complete());
        }
        Ok(())
    }

    fn ends(&self, candidate: &Beam) -> bool {
        let last = candidate.ids.last();
        candidate.ids.len() >= self.limit || last.is_some_and(|last| self.options.eos_token_id.contains(last))
    }

    /// A length in tokens without the prompt, to the power of the length penalty.
    #[expect(clippy::cast_precision_loss, reason = "lengths are small")]
    fn normalizer(&self, length: usize) -> f32 {
        (length.saturating_sub(self.prompt) as f32).powf(self.options.length_penalty)
    }

    fn full(&self) -> bool {
        self.options.early_stopping == EarlyStopping::Always && self.best.iter().all(|beam| beam.finished)
    }

    fn keep_finished(&mut self, candidates: &[Beam], ended: &[bool]) {
        let closed = self.full() || !self.improvable;
        for (rank, (candidate, ended)) in candidates.iter().zip(ended).enumerate() {
            // What is beyond the number of beams is only there to go on with.
            let finished = *ended && rank < self.options.num_beams;
            let mut score = candidate.score / self.normalizer(candidate.ids.len());
            score += if closed { WORST } else { 0.0 } + if finished { 0.0 } else { WORST };
            score += if candidate.complete || self.grammars.is_empty() { 0.0 } else { CUT };
            self.best.push(Beam { score, finished, ..candidate.clone() });
        }
        self.best.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.best.truncate(self.options.num_beams);
    }

    fn keep_running(&mut self, mut candidates: Vec<Beam>, ended: &[bool]) -> Result<()> {
        for (candidate, ended) in candidates.iter_mut().zip(ended) {
            candidate.score += if *ended { WORST } else { 0.0 };
        }
        if !self.grammars.is_empty() {
            let mut ended = ended.iter();
            candidates.retain(|_| !ended.next().is_some_and(|ended| *ended));
        }
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        candidates.truncate(self.options.num_beams);
        let grammars = candidates.iter().map(|candidate| self.grammar_of(candidate)).collect::<Result<Vec<_>>>()?;
        self.grammars = grammars.into_iter().flatten().collect();
        self.running = candidates;
        Ok(())
    }

    /// Whether another step can change the outcome.
    fn goes_on(&mut self, ended: &[bool]) -> bool {
        let Some(running) = self.running.first() else { return false };
        let length = match self.options.early_stopping {
            EarlyStopping::Never if self.options.length_penalty > 0.0 => self.limit,
            _ => running.ids.len(),
        };
        let possible = running.score / self.normalizer(length);
        let worst = self.best.iter().map(|beam| beam.score).fold(f32::INFINITY, f32::min);
        let beats = |beam: &Beam| possible > if beam.finished { worst } else { WORST };
        self.improvable &= self.best.iter().any(beats);
        self.improvable && !self.full() && !ended.iter().all(|ended| *ended)
    }

    /// Ids, log-probabilities and attention of the best sequence.
    fn finish(mut self) -> (Vec<u32>, Vec<f32>, Vec<Vec<f32>>) {
        let best = self.best.swap_remove(0);
        let (mut logprobs, mut attention) = (Vec::new(), Vec::new());
        let mut next = best.node;
        while let Some(node) = next.map(|index| &self.nodes[index]) {
            logprobs.push(node.logprob);
            attention.extend(node.attention.map(|index| self.attention[index].clone()));
            next = node.parent;
        }
        logprobs.reverse();
        attention.reverse();
        (best.ids, logprobs, attention)
    }
}
