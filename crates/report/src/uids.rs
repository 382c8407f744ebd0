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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The text report, as Basic Text SR.
    BasicTextReport,
    /// The text report, as Enhanced SR.
    EnhancedTextReport,
    /// The measurement report, as Comprehensive 3D SR.
    Measurements3D,
    /// The measurement report, as Comprehensive SR.
    Measurements,
    /// Study-level results in measurement groups without regions.
    Results,
    /// The report as a PDF.
    Pdf,
    /// What the model attended to, as a picture.
    HeatMap,
    /// The images that show what was found.
    KeyObjects,
    /// The regions, drawn over the images.
    Presentation,
    /// What takes documents of ours back.
    RejectionNote,
}

/// What every document of a kind has in common.
struct KindRow {
    kind: Kind,
    /// What its UIDs derive from: never to be changed.
    name: &'static str,
    sop_class_uid: &'static str,
    modality: &'static str,
    /// Added to a number of 900 or more: where the series stands among ours.
    series: u32,
    series_description: &'static str,
}

const KINDS: &[KindRow] = &[
    KindRow {
        kind: Kind::BasicTextReport,
        name: "basic-text-report",
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.88.11",
        modality: "SR",
        series: 1,
        series_description: "AI DRAFT report - not verified",
    },
    KindRow {
        kind: Kind::EnhancedTextReport,
        name: "enhanced-text-report",
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.88.22",
        modality: "SR",
        series: 1,
        series_description: "AI DRAFT report - not verified",
    },
    KindRow {
        kind: Kind::Measurements3D,
        name: "measurements-3d",
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.88.34",
        modality: "SR",
        series: 2,
        series_description: "AI DRAFT measurements - not verified",
    },
    KindRow {
        kind: Kind::Measurements,
        name: "measurements",
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.88.33",
        modality: "SR",
        series: 2,
        series_description: "AI DRAFT measurements - not verified",
    },
    KindRow {
        kind: Kind::Results,
        name: "results",
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.88.34",
        modality: "SR",
        series: 3,
        series_description: "AI DRAFT results - not verified",
    },
    KindRow {
        kind: Kind::Pdf,
        name: "pdf",
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.104.1",
        modality: "DOC",
        series: 4,
        series_description: "AI DRAFT report (PDF) - not verified",
    },
    KindRow {
        kind: Kind::HeatMap,
        name: "heat-map",
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.7",
        modality: "OT",
        series: 5,
        series_description: "AI DRAFT heat map - not verified",
    },
    KindRow {
        kind: Kind::KeyObjects,
        name: "key-objects",
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.88.59",
        modality: "KO",
        series: 6,
        series_description: "AI DRAFT key images - not verified",
    },
    KindRow {
        kind: Kind::Presentation,
        name: "presentation",
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.11.1",
        modality: "PR",
        series: 7,
        series_description: "AI DRAFT regions - not verified",
    },
    KindRow {
        kind: Kind::RejectionNote,
        name: "rejection-note",
        sop_class_uid: "1.2.840.10008.5.1.4.1.1.88.59",
        modality: "KO",
        series: 8,
        series_description: "AI DRAFT withdrawn - rejection note",
    },
];

impl Kind {
    fn row(self) -> &'static KindRow {
        KINDS.iter().find(|row| row.kind == self).unwrap_or(&KINDS[0])
    }

    /// SOP Class UID (PS3.4 table B.5-1).
    pub fn sop_class_uid(self) -> &'static str {
        self.row().sop_class_uid
    }

    /// Modality (0008,0060).
    pub fn modality(self) -> &'static str {
        self.row().modality
    }

    /// Series Description (0008,103E): that it is a draft, wherever a viewer shows it.
    pub fn series_description(self) -> &'static str {
        self.row().series_description
    }

    /// The same document as another SOP class.
    pub(crate) fn same_in_another_class(self) -> Option<Self> {
        match self {
            Self::BasicTextReport => Some(Self::EnhancedTextReport),
            Self::EnhancedTextReport => Some(Self::BasicTextReport),
            Self::Measurements3D => Some(Self::Measurements),
            Self::Measurements => Some(Self::Measurements3D),
            Self::Results | Self::Pdf | Self::HeatMap | Self::KeyObjects | Self::Presentation | Self::RejectionNote => {
                None
            }
        }
    }

    /// Series Number (0020,0011) for a version of the report: behind the images, and another one for each version.
    pub fn series_number(self, version: u32) -> u32 {
        900_u32.saturating_add(version.saturating_sub(1).saturating_mul(10)).saturating_add(self.row().series)
    }

    /// Of which kind a document of ours is, by its class and series description; none for what is not ours.
    pub(crate) fn of(sop_class_uid: &str, series_description: &str) -> Option<Self> {
        let same = |row: &&KindRow| row.sop_class_uid == sop_class_uid && row.series_description == series_description;
        KINDS.iter().find(same).map(|row| row.kind)
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
    /// The digest of what the rule sets besides, where that is not the default: another one for other checks.
    pub settings_digest: Option<String>,
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

    /// The Tracking Unique Identifier (112040,DCM) of a finding: the same in every version of a study's report, so that
    /// what is said of it can be followed. `number` tells those apart that are otherwise the same.
    pub(crate) fn tracking(&self, identity: &[&str], number: usize) -> Uid {
        let number = (number as u64).to_le_bytes();
        let mut parts: Vec<&[u8]> =
            vec![b"preread tracking", self.study_instance_uid.as_str().as_bytes(), self.rule.as_bytes(), &number];
        parts.extend(identity.iter().map(|part| part.as_bytes()));
        Uid::derive(&parts)
    }

    fn derive(&self, level: &str, kind: Kind) -> Uid {
        let version = self.version.to_le_bytes();
        let count = (self.inputs.len() as u64).to_le_bytes();
        let mut parts: Vec<&[u8]> = vec![
            b"preread report",
            level.as_bytes(),
            kind.row().name.as_bytes(),
            self.study_instance_uid.as_str().as_bytes(),
            self.model_digest.as_bytes(),
            self.rule.as_bytes(),
            &version,
            &count,
        ];
        // Nothing at all for the default, so that its UIDs are those of a rule that sets nothing.
        parts.extend(self.settings_digest.as_ref().map(|digest| digest.as_bytes()));
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
    fn every_kind_has_its_own_row_and_series() {
        let all: BTreeSet<(&str, u32)> = KINDS.iter().map(|row| (row.name, row.kind.series_number(1))).collect();
        assert_eq!(all.len(), KINDS.len());
        assert!(KINDS.iter().all(|row| row.kind.row().name == row.name && row.series_description.len() <= 64));
        assert_eq!((Kind::Pdf.series_number(1), Kind::Pdf.series_number(3)), (904, 924));
    }

    #[test]
    fn a_uid_changes_with_each_thing_it_derives_from_and_with_nothing_else() {
        let input =
            |uid: &str, digest: &str| Input { sop_instance_uid: uid.parse().unwrap(), digest: digest.to_owned() };
        let one = Derivation {
            study_instance_uid: "1.2".parse().unwrap(),
            inputs: BTreeSet::from([input("1.2.3", "aa"), input("1.2.4", "bb")]),
            model_digest: "d".to_owned(),
            rule: "r".to_owned(),
            settings_digest: None,
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
            Derivation { settings_digest: Some("t".to_owned()), ..one.clone() },
            Derivation { version: 2, ..one.clone() },
        ];
        let mut uids = BTreeSet::from([one.series(Kind::BasicTextReport), one.instance(Kind::EnhancedTextReport)]);
        uids.insert(one.instance(Kind::BasicTextReport));
        uids.extend(others.iter().map(|other| other.instance(Kind::BasicTextReport)));
        assert_eq!(uids.len(), others.len() + 3);
        let tracked: BTreeSet<Uid> = others.iter().map(|it| it.tracking(&["Nodule 1", "27925004"], 0)).collect();
        assert_eq!(tracked.len(), 3, "of three studies and rules, whatever model, inputs and version");
        assert_ne!(one.tracking(&["Nodule 1"], 0), one.tracking(&["Nodule 1"], 1));
    }
}
