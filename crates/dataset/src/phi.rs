use std::fmt;

/// A patient's data. Prints as `‹phi›`, so that it cannot reach a log, a metric or an error by accident.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    /// Marks a value as a patient's data.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the two places that may have it: the objects we write and the person who asked.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("‹phi›")
    }
}

impl<T> fmt::Display for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("‹phi›")
    }
}
