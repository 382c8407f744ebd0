//! What bounds the text of a request: its own grammar, the manifest's, or none. Vocabulary and grammars are made when first
//! needed, and kept for the next request.

use crate::{
    bundle::Bundle,
    constraint::{Constraint, Grammar, Vocabulary},
    error::{Error, Result},
    model::Output,
    text::Text,
};

/// The grammars of a model.
#[derive(Default)]
pub(crate) struct Bounds {
    /// The manifest's.
    stated: Option<Grammar>,
    /// Tokens that a model scores, where its graphs fix that.
    scored: Option<usize>,
    /// The vocabulary, for these end tokens.
    vocabulary: Option<(Vec<u32>, Vocabulary)>,
    /// The last grammar, at its beginning.
    last: Option<(Grammar, Constraint)>,
}

impl Bounds {
    /// For a model that scores `scored` tokens, and ends its text with one of `ends`.
    ///
    /// # Errors
    /// [`Error::Bundle`] with the key of `model.toml` for a grammar of the manifest that is wrong.
    pub(crate) fn new(bundle: &Bundle, text: &Text, scored: Option<usize>, ends: &[u32]) -> Result<Self> {
        let output = &bundle.manifest.output;
        let mut bounds = Self { stated: output.grammar(&bundle.folder)?, scored, ..Self::default() };
        match bounds.constraint(&Output::Manifest, text, ends) {
            Ok(_) => Ok(bounds),
            Err(Error::Request(problem)) => {
                Err(Error::bundle(bundle.folder.join("model.toml"), format!("{}: {problem}", output.key())))
            }
            Err(error) => Err(error),
        }
    }

    /// The beginning of a text as a request wants it; none for free text.
    ///
    /// # Errors
    /// [`Error::Request`] for a grammar that is malformed or not supported, or without an end token;
    /// [`Error::Unsupported`] for a tokenizer whose tokens are not pieces of text.
    pub(crate) fn constraint(&mut self, output: &Output, text: &Text, ends: &[u32]) -> Result<Option<Constraint>> {
        let grammar = match output {
            Output::Free => None,
            Output::Manifest => self.stated.as_ref(),
            Output::Bound(grammar) => Some(grammar),
        };
        let Some(grammar) = grammar else { return Ok(None) };
        if self.vocabulary.as_ref().is_none_or(|(known, _)| known != ends) {
            let size = self.scored.unwrap_or_else(|| text.vocabulary_size());
            self.vocabulary = Some((ends.to_vec(), text.vocabulary(size, ends)?));
            self.last = None;
        }
        if let Some((last, constraint)) = &self.last
            && last == grammar
        {
            return Ok(Some(constraint.clone()));
        }
        let Some((_, vocabulary)) = &self.vocabulary else { return Ok(None) };
        let constraint = vocabulary.constrain(grammar)?;
        self.last = Some((grammar.clone(), constraint.clone()));
        Ok(Some(constraint))
    }
}
