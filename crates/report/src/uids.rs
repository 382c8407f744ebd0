//! The UIDs of what we make: they depend on what it was made from and on nothing else, so that a replay makes the same
//! objects and a retry can never make a second report.

use std::collections::BTreeSet;

use dataset::Uid;

/// An instance that was read, by identity and by content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Input {
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: Uid,
    /// Digest of its data set, in hexadecimal.
    pub digest: String,
}

/// Which of the documents of one reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The text report, as Basic Text SR.
    BasicTextReport,
    /// The text report, as Enhanced SR.
    EnhancedTextReport,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::BasicTextReport => "basic-text-report",
            Self::EnhancedTextReport => "enhanced-text-report",
        }
    }
}

/// What the UIDs of a reading derive from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derivation {
    /// Study Instance UID (0020,000D).
    pub study_instance_uid: Uid,
    /// What was read; a set, so that the order of arrival does not matter.
    pub inputs: BTreeSet<Input>,
    /// The digest of the model's weights.
    pub model_digest: String,
    /// The rule that chose the model.
    pub rule: String,
    /// The report's version: another one for other content.
    pub version: u32,
}

impl Derivation {
    /// The Series Instance UID of a document: each one stands in a series of its own.
    pub fn series(&self, kind: Kind) -> Uid {
        self.derive("series", kind)
    }

    /// The SOP Instance UID of a document.
    pub fn instance(&self, kind: Kind) -> Uid {
        self.derive("instance", kind)
    }

    fn derive(&self, level: &str, kind: Kind) -> Uid {
        let version = self.version.to_le_bytes();
        let count = (self.inputs.len() as u64).to_le_bytes();
        let mut parts: Vec<&[u8]> = vec![
            b"preread report",
            level.as_bytes(),
            kind.name().as_bytes(),
            self.study_instance_uid.as_str().as_bytes(),
            self.model_digest.as_bytes(),
            self.rule.as_bytes(),
            &version,
            &count,
        ];
        for input in &self.inputs {
            parts.push(input.sop_instance_uid.as_str().as_bytes());
            parts.push(input.digest.as_bytes());
        }
        Uid::derive(&parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_changes_with_each_thing_it_derives_from_and_with_nothing_else() {
        let input =
            |uid: &str, digest: &str| Input { sop_instance_uid: uid.parse().unwrap(), digest: digest.to_owned() };
        let one = Derivation {
            study_instance_uid: "1.2".parse().unwrap(),
            inputs: BTreeSet::from([input("1.2.3", "aa"), input("1.2.4", "bb")]),
            model_digest: "d".to_owned(),
            rule: "r".to_owned(),
            version: 1,
        };
        let same = Derivation { inputs: BTreeSet::from([input("1.2.4", "bb"), input("1.2.3", "aa")]), ..one.clone() };
        assert_eq!(one.instance(Kind::BasicTextReport), same.instance(Kind::BasicTextReport));
        let others = [
            Derivation { study_instance_uid: "1.3".parse().unwrap(), ..one.clone() },
            Derivation { inputs: BTreeSet::from([input("1.2.3", "aa")]), ..one.clone() },
            Derivation { inputs: BTreeSet::from([input("1.2.3", "aa"), input("1.2.4", "bc")]), ..one.clone() },
            Derivation { model_digest: "e".to_owned(), ..one.clone() },
            Derivation { rule: "s".to_owned(), ..one.clone() },
            Derivation { version: 2, ..one.clone() },
        ];
        let mut uids = BTreeSet::from([one.series(Kind::BasicTextReport), one.instance(Kind::EnhancedTextReport)]);
        uids.insert(one.instance(Kind::BasicTextReport));
        uids.extend(others.iter().map(|other| other.instance(Kind::BasicTextReport)));
        assert_eq!(uids.len(), others.len() + 3);
    }
}
