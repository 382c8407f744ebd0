//! Whatever answers requests: a model, or a script in tests of what comes after a model.

use std::fmt;

use crate::{
    answer::Answer,
    cancel::Cancel,
    error::Result,
    model::{Model, Request},
};

/// Answers requests, one at a time.
pub trait Backend: Send {
    /// Answers one request.
    ///
    /// # Errors
    /// As [`Model::run`].
    fn run(&mut self, request: &Request, cancel: &Cancel) -> Result<Answer>;
}

impl Backend for Model {
    fn run(&mut self, request: &Request, cancel: &Cancel) -> Result<Answer> {
        Self::run(self, request, cancel)
    }
}

type Script = dyn FnMut(&Request, &Cancel) -> Result<Answer> + Send;

/// A backend without a model: the same requests give the same answers.
pub struct Scripted(Box<Script>);

impl Scripted {
    /// Answers with what `script` returns.
    pub fn new(script: impl FnMut(&Request, &Cancel) -> Result<Answer> + Send + 'static) -> Self {
        Self(Box::new(script))
    }

    /// Says each of `texts` in turn, and the last one ever after ([`Answer::scripted`]).
    pub fn saying<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        let texts: Vec<String> = texts.into_iter().map(Into::into).collect();
        let mut next = 0;
        Self::new(move |_, cancel| {
            cancel.check()?;
            let text = texts.get(next).or(texts.last()).map_or("", String::as_str);
            next += 1;
            Ok(Answer::scripted(text))
        })
    }
}

impl Backend for Scripted {
    fn run(&mut self, request: &Request, cancel: &Cancel) -> Result<Answer> {
        (self.0)(request, cancel)
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}
