//! The closed vocabulary: what a model may say that we understand, and the code it then gets.
//!
//! A row without a code is shown as text: the codes that could not be verified stay out. Cardiomegaly is one of them
//! for a reason worth keeping: in the DICOM dictionaries 287272002 is labelled so, but in SNOMED CT it is an enlarged
//! septal foramen.

use crate::codes::{Code, dcm, sct};

/// What a finding is about. Closed: a model cannot add to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Concept {
    /// Air in the pleural space.
    Pneumothorax,
    /// Clot in a pulmonary artery.
    PulmonaryEmbolism,
    /// Bleeding inside the skull.
    IntracranialHemorrhage,
    /// Fluid in the lungs.
    PulmonaryEdema,
    /// Airspaces filled.
    Consolidation,
    /// An infection, as far as an image can say so.
    Pneumonia,
    /// A lesion above 3 cm.
    Mass,
    /// A lesion up to 3 cm.
    Nodule,
    /// A broken bone.
    Fracture,
    /// Fluid around the lung.
    PleuralEffusion,
    /// Fluid around the heart.
    PericardialEffusion,
    /// An area of increased attenuation, without more.
    Opacity,
    /// Hazy opacity that leaves vessels visible.
    GroundGlassOpacity,
    /// Collapsed lung.
    Atelectasis,
    /// An enlarged heart.
    Cardiomegaly,
    /// A tube in the trachea.
    EndotrachealTube,
    /// A catheter in a central vein.
    CentralVenousLine,
    /// A tube in the pleural space.
    ChestTube,
    /// A tube to the stomach.
    FeedingTube,
    /// A cardiac pacemaker.
    Pacemaker,
    /// The statement that the lungs are clear.
    ClearLungs,
}

/// How soon a person should look; the order of the impression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Minutes matter when it is true.
    Critical,
    /// To be acted on today.
    Acute,
    /// To be known.
    Other,
    /// A device in place: no abnormality.
    Device,
    /// A statement that something is normal.
    Normal,
}

/// Where a concept can be, which decides how a side is said and whether one makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the lung: "in the left upper zone", "in the left lung".
    Lung,
    /// On a side: "left pleural effusion".
    Side,
    /// In the midline or everywhere: no side, no zone.
    Nowhere,
}

/// How a concept is graded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grade {
    /// Small, moderate, large.
    Size,
    /// Mild, moderate, severe.
    Severity,
    /// Not at all.
    None,
}

/// A row of the vocabulary.
pub(crate) struct Row {
    pub(crate) concept: Concept,
    /// How we say it.
    pub(crate) name: &'static str,
    pub(crate) code: Option<Code>,
    pub(crate) urgency: Urgency,
    pub(crate) place: Place,
    pub(crate) grade: Grade,
    /// What models write, in the singular, without articles; side, zone and size stand elsewhere. A longer one wins.
    pub(crate) words: &'static [&'static str],
}

impl Concept {
    /// Its row in the vocabulary.
    pub(crate) fn row(self) -> &'static Row {
        VOCABULARY.iter().find(|row| row.concept == self).unwrap_or(&VOCABULARY[0])
    }

    /// Every concept, in order of urgency.
    pub fn all() -> impl Iterator<Item = Self> {
        VOCABULARY.iter().map(|row| row.concept)
    }

    /// Its name as the report says it.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Its code (PS3.16 CID 6102 and others); nothing where no code could be verified.
    pub fn code(self) -> Option<Code> {
        self.row().code
    }

    /// How soon a person should look when it is present.
    pub fn urgency(self) -> Urgency {
        self.row().urgency
    }
}

const fn row(
    concept: Concept,
    name: &'static str,
    code: Option<Code>,
    urgency: Urgency,
    (place, grade): (Place, Grade),
    words: &'static [&'static str],
) -> Row {
    Row { concept, name, code, urgency, place, grade, words }
}

/// The vocabulary: one row for each concept, in order of urgency.
pub(crate) const VOCABULARY: &[Row] = {
    use Concept as C;
    use Grade as G;
    use Place as P;
    use Urgency::{Acute, Critical, Device, Normal, Other};
    &[
        row(
            C::Pneumothorax,
            "pneumothorax",
            Some(sct("36118008", "Pneumothorax")),
            Critical,
            (P::Side, G::Size),
            &["pneumothorax", "pneumothoraces"],
        ),
        row(
            C::PulmonaryEmbolism,
            "pulmonary embolism",
            Some(sct("59282003", "Pulmonary embolism")),
            Critical,
            (P::Side, G::None),
            &["pulmonary embolism", "pulmonary embolus", "pulmonary emboli"],
        ),
        row(
            C::IntracranialHemorrhage,
            "intracranial hemorrhage",
            Some(sct("1386000", "Intracranial hemorrhage")),
            Critical,
            (P::Side, G::None),
            &["intracranial hemorrhage", "intracranial haemorrhage", "intracranial bleeding"],
        ),
        row(
            C::PulmonaryEdema,
            "pulmonary edema",
            Some(sct("19242006", "Pulmonary edema")),
            Acute,
            (P::Nowhere, G::Severity),
            &["pulmonary edema", "pulmonary oedema", "lung edema"],
        ),
        row(
            C::Consolidation,
            "consolidation",
            None,
            Acute,
            (P::Lung, G::Size),
            &[
                "consolidation",
                "focal consolidation",
                "airspace consolidation",
                "focal airspace consolidation",
                "lobar consolidation",
                "pulmonary consolidation",
            ],
        ),
        row(C::Pneumonia, "pneumonia", None, Acute, (P::Lung, G::None), &["pneumonia", "focal pneumonia"]),
        row(C::Mass, "mass", Some(sct("4147007", "Mass")), Acute, (P::Lung, G::Size), &["mass", "pulmonary mass"]),
        row(
            C::Nodule,
            "nodule",
            Some(sct("27925004", "Nodule")),
            Acute,
            (P::Lung, G::Size),
            &["nodule", "pulmonary nodule", "solitary nodule", "solitary pulmonary nodule"],
        ),
        row(C::Fracture, "fracture", None, Acute, (P::Side, G::None), &["fracture", "bone fracture"]),
        row(
            C::PleuralEffusion,
            "pleural effusion",
            Some(sct("60046008", "Pleural effusion")),
            Acute,
            (P::Side, G::Size),
            &["pleural effusion", "effusion", "pleural fluid"],
        ),
        row(
            C::PericardialEffusion,
            "pericardial effusion",
            Some(sct("373945007", "Pericardial effusion")),
            Acute,
            (P::Nowhere, G::Size),
            &["pericardial effusion"],
        ),
        row(
            C::Opacity,
            "opacity",
            Some(dcm("112001", "Opacity")),
            Other,
            (P::Lung, G::Size),
            &[
                "opacity",
                "opacities",
                "lung opacity",
                "pulmonary opacity",
                "focal opacity",
                "airspace opacity",
                "focal airspace opacity",
                "airspace opacities",
                "airspace opacification",
                "opacification",
            ],
        ),
        row(
            C::GroundGlassOpacity,
            "ground glass opacity",
            Some(dcm("112120", "Ground glass opacity")),
            Other,
            (P::Lung, G::Size),
            &["ground glass opacity", "ground glass opacities"],
        ),
        row(C::Atelectasis, "atelectasis", None, Other, (P::Lung, G::Severity), &["atelectasis"]),
        row(
            C::Cardiomegaly,
            "cardiomegaly",
            None,
            Other,
            (P::Nowhere, G::Severity),
            &[
                "cardiomegaly",
                "enlarged heart",
                "heart enlarged",
                "heart size enlarged",
                "enlarged heart size",
                "cardiac silhouette enlarged",
                "enlarged cardiac silhouette",
                "cardiac enlargement",
                "heart enlargement",
            ],
        ),
        row(
            C::EndotrachealTube,
            "endotracheal tube",
            Some(sct("26412008", "Endotracheal tube")),
            Device,
            (P::Nowhere, G::None),
            &["endotracheal tube", "et tube", "ett"],
        ),
        row(
            C::CentralVenousLine,
            "central venous line",
            Some(sct("52124006", "Central venous catheter")),
            Device,
            (P::Side, G::None),
            &["central venous line", "central venous catheter", "central line", "cvc"],
        ),
        row(
            C::ChestTube,
            "chest tube",
            Some(dcm("112173", "Chest tube")),
            Device,
            (P::Side, G::None),
            &["chest tube", "chest drain", "thoracic drain", "pleural drain"],
        ),
        row(
            C::FeedingTube,
            "feeding tube",
            Some(sct("25062003", "Feeding tube")),
            Device,
            (P::Nowhere, G::None),
            &["feeding tube", "nasogastric tube", "enteric tube", "ng tube"],
        ),
        row(
            C::Pacemaker,
            "pacemaker",
            Some(sct("14106009", "Cardiac pacemaker")),
            Device,
            (P::Side, G::None),
            &["pacemaker", "cardiac pacemaker"],
        ),
        row(C::ClearLungs, "clear lungs", None, Normal, (P::Nowhere, G::None), &["clear lung", "lung clear"]),
    ]
};

/// Statements that the whole study is normal, without articles and without "seen" and the like.
pub(crate) const NORMAL: &[&str] = &[
    "no abnormality",
    "no abnormal finding",
    "no significant abnormality",
    "no significant abnormal finding",
    "normal",
    "normal study",
    "normal examination",
    "normal exam",
    "normal chest",
    "normal chest radiograph",
    "normal chest x ray",
    "normal radiograph",
    "unremarkable study",
    "unremarkable examination",
    "unremarkable chest radiograph",
    "unremarkable chest x ray",
    "chest radiograph normal",
    "study normal",
    "examination normal",
];

/// Statements that nothing acute is seen, which leaves room for what is old.
pub(crate) const NOTHING_ACUTE: &[&str] = &[
    "no acute abnormality",
    "no acute finding",
    "no acute process",
    "no acute disease",
    "no acute cardiopulmonary abnormality",
    "no acute cardiopulmonary finding",
    "no acute cardiopulmonary process",
    "no acute cardiopulmonary disease",
    "no acute intrathoracic abnormality",
    "no acute intrathoracic process",
    "no acute pulmonary abnormality",
    "no acute pulmonary process",
    "no active disease",
    "no active cardiopulmonary disease",
];

/// Statements that a concept is absent and that no negating word shows.
pub(crate) const ABSENT: &[(&str, Concept)] = &[
    ("normal heart size", Concept::Cardiomegaly),
    ("heart size normal", Concept::Cardiomegaly),
    ("heart normal size", Concept::Cardiomegaly),
    ("cardiac silhouette normal size", Concept::Cardiomegaly),
    ("normal cardiac silhouette size", Concept::Cardiomegaly),
    ("heart size within normal limit", Concept::Cardiomegaly),
];
