//! Errors in one sentence for a person.

/// An error and what caused it, each said once: many of our errors quote their cause already.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::told;

    #[test]
    fn a_cause_is_said_once() {
        let in_use = || anyhow!("Address already in use (os error 98)");
        for (error, expected) in [
            (in_use(), "Address already in use (os error 98)"),
            (in_use().context("127.0.0.1:104"), "127.0.0.1:104: Address already in use (os error 98)"),
            (
                in_use().context("127.0.0.1:104: Address already in use (os error 98)").context("listen"),
                "listen: 127.0.0.1:104: Address already in use (os error 98)",
            ),
        ] {
            assert_eq!(told(&error), expected);
        }
    }
}
