//! Which view an image shows, and how it must be turned to stand as readers expect.

use dataset::{Header, Instance, tags};
use dicom_object::InMemDicomObject;

use crate::{
    Turn,
    groups::{functional_group, text},
    series::Plane,
};

/// The view of a projection image (PS3.3 C.8.7.5, C.8.11.7).
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct View {
    /// Which breast or paired part: R, L or B (both).
    pub laterality: Option<char>,
    /// The projection: `PA`, `AP`, `LL`, `CC`, `MLO` …, by View Code Sequence, else View Position.
    pub projection: Option<String>,
    /// Whether View Modifier Code Sequence says that it is no whole standard view: magnified, spot compression ….
    pub modified: bool,
    /// Whether it is a mammogram.
    pub breast: bool,
}

/// The view that a code of View Code Sequence means, in SNOMED CT or SRT (PS3.16 CID 4010 and 4014); nothing for another
/// code.
pub fn view_of_code(code: &str) -> Option<&'static str> {
    VIEWS.iter().find(|(_, codes)| codes.contains(&code)).map(|(name, _)| *name)
}

impl View {
    /// The view of an image, from its header and, when it is there, the whole instance: codes are in sequences.
    pub fn of(header: &Header, instance: Option<&Instance>) -> Self {
        let coded = instance.and_then(|instance| {
            let item = instance.element(tags::VIEW_CODE_SEQUENCE)?.items()?.first()?;
            let modified = item.get(tags::VIEW_MODIFIER_CODE_SEQUENCE).and_then(|element| element.items());
            Some((text(item, tags::CODE_VALUE), modified.is_some_and(|items| !items.is_empty())))
        });
        let (code, modified) = coded.unwrap_or_default();
        let by_code = code.and_then(|code| view_of_code(&code)).map(str::to_owned);
        let anatomy = instance.and_then(|instance| functional_group(instance, 0, tags::FRAME_ANATOMY_SEQUENCE));
        let laterality = anatomy
            .and_then(|item| text(item, tags::FRAME_LATERALITY))
            .or_else(|| header.text(tags::IMAGE_LATERALITY))
            .or_else(|| header.text(tags::LATERALITY));
        let laterality = laterality.and_then(|text| text.chars().next()).filter(|side| ['R', 'L', 'B'].contains(side));
        let position = header.text(tags::VIEW_POSITION).map(|text| text.to_uppercase());
        Self { laterality, projection: by_code.or(position), modified, breast: header.modality() == "MG" }
    }

    /// What a manifest calls it: `RCC`, `LMLO` of a breast, else the projection; nothing when either is not stated.
    pub fn name(&self) -> Option<String> {
        let projection = self.projection.as_ref()?;
        if !self.breast {
            return Some(projection.clone());
        }
        self.laterality.map(|side| format!("{side}{projection}"))
    }

    /// Whether a manifest that names `wanted` means this view: by its name or by its projection alone. A magnified view
    /// or one of a part of the breast is none of the four.
    pub fn is(&self, wanted: &str) -> bool {
        let named = |name: Option<&str>| name.is_some_and(|name| name.eq_ignore_ascii_case(wanted));
        !(self.breast && self.modified) && (named(self.projection.as_deref()) || named(self.name().as_deref()))
    }
}

/// Views by their codes in SNOMED CT and SRT (PS3.16 CID 4010 and 4014, the older ones too), named as the defined terms of
/// View Position where there is one.
const VIEWS: &[(&str, &[&str])] = &[
    ("AP", &["399348003", "R-10206"]),
    // The first two are older codes, which images still have.
    ("PA", &["399148001", "R-10214", "272479007", "R-40888"]),
    ("LL", &["399173006", "R-10236"]),
    ("RL", &["399198007", "R-10232"]),
    ("LATERAL", &["399067008", "R-102CD", "30730003", "G-A145"]),
    ("FRONTAL", &["399033003", "R-10202"]),
    ("LAO", &["399135007", "R-10220"]),
    ("RAO", &["399356000", "R-40985", "R-10218"]),
    ("LPO", &["399006002", "R-10212"]),
    ("RPO", &["399038007", "R-10210"]),
    ("LLO", &["399184004", "R-10238"]),
    ("RLO", &["399236003", "R-10234"]),
    ("AXIAL", &["399061009", "R-10241", "399004004", "R-10246", "399132005", "R-10252", "399325008", "R-10254"]),
    (
        "OBLIQUE",
        &[
            "399182000",
            "R-102C1",
            "399160007",
            "R-10204",
            "399312000",
            "R-10208",
            "399059000",
            "R-10216",
            "260427002",
            "R-40783",
            "260426006",
            "R-40782",
            "399288005",
            "R-10248",
            "399225005",
            "R-10250",
        ],
    ),
    ("TANGENTIAL", &["399110001", "R-102C2"]),
    ("SUBMENTOVERTICAL", &["399255003", "R-10256"]),
    ("VERTICOSUBMENTAL", &["399360002", "R-10257"]),
    ("PLANTODORSAL", &["399071006", "R-102C3"]),
    ("DORSOPLANTAR", &["399335002", "R-102C4"]),
    ("PARIETOACANTHIAL", &["399272005", "R-102C5"]),
    ("ACANTHIOPARIETAL", &["399242004", "R-102C6"]),
    ("ORBITOPARIETAL", &["399351005", "R-102C7"]),
    ("PARIETOORBITAL", &["399316002", "R-102C8"]),
    ("OCCLUSAL", &["260499007", "R-40810"]),
    ("SPECIMEN", &["119376003", "G-8300"]),
    ("CC", &["399162004", "R-10242"]),
    ("FB", &["399196006", "R-10244"]),
    ("XCCL", &["399192008", "R-1024A"]),
    ("XCCM", &["399101009", "R-1024B"]),
    ("MLO", &["399368009", "R-10226"]),
    ("ML", &["399260004", "R-10224"]),
    ("LM", &["399352003", "R-10228"]),
    ("LMO", &["399099002", "R-10230"]),
    ("SIO", &["399188001", "R-102D0"]),
];

/// What says how an image stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StandsBy {
    /// Image Orientation (Patient).
    ImageOrientation,
    /// Patient Orientation (0020,0020).
    PatientOrientation,
    /// Nothing that can be read: it is taken as it is.
    NotStated,
}

/// How a frame must be turned so that it stands as readers, and models, expect, and what says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Upright {
    /// What to do.
    pub turn: Turn,
    /// What says so.
    pub by: StandsBy,
}

/// How to turn a frame, counted from 0.
///
/// The patient's right comes to the image's left and the head up; in transverse slices the front up; in sagittal slices
/// and lateral projections the head up, slices with the front to the left. A lateral projection is only turned, never
/// mirrored, because either side may face the reader. A breast stands as it is hung: the chest wall on the right for the
/// right breast and on the left for the left one, the lateral or upper side up.
pub fn upright(instance: &Instance, frame: u32) -> Upright {
    if let Some((row, column)) = slice_directions(instance, frame) {
        return Upright {
            turn: best(row, column, &Turn::ALL, wanted_of_slice(row, column)),
            by: StandsBy::ImageOrientation,
        };
    }
    let as_it_is = Upright { turn: Turn::None, by: StandsBy::NotStated };
    let Some((row, column)) = projection_directions(&instance.header) else { return as_it_is };
    let by = StandsBy::PatientOrientation;
    let view = View::of(&instance.header, Some(instance));
    if view.breast {
        let Some(side) = view.laterality.filter(|side| *side != 'B') else { return as_it_is };
        let right = if side == 'R' { 1.0 } else { -1.0 };
        let wanted = ([0.0, right, 0.0], [0.5 * right, 0.0, -1.0]);
        return Upright { turn: best(row, column, &Turn::ALL, wanted), by };
    }
    let turn = match through(row, column) {
        0 => best(row, column, &[Turn::None, Turn::Half, Turn::Right, Turn::Left], ([0.0; 3], FEET)),
        1 => best(row, column, &Turn::ALL, (LEFT, FEET)),
        _ => best(row, column, &Turn::ALL, (LEFT, BACK)),
    };
    Upright { turn, by }
}

type Direction = [f64; 3];

// In the patient's system: x to the left, y to the back, z to the head (PS3.3 C.7.6.2.1.1).
const LEFT: Direction = [1.0, 0.0, 0.0];
const BACK: Direction = [0.0, 1.0, 0.0];
const FEET: Direction = [0.0, 0.0, -1.0];

fn slice_directions(instance: &Instance, frame: u32) -> Option<(Direction, Direction)> {
    let values = |item: &InMemDicomObject| {
        crate::groups::numbers(item, tags::IMAGE_ORIENTATION_PATIENT, "an orientation").ok().flatten()
    };
    let of_frame = functional_group(instance, frame, tags::PLANE_ORIENTATION_SEQUENCE).and_then(values);
    let orientation = of_frame.or_else(|| values(instance.object()))?;
    let plane = Plane::of(&[0.0; 3], &orientation)?;
    Some((plane.row, plane.column))
}

/// Patient Orientation: the direction of the rows and of the columns, each by one to three letters.
fn projection_directions(header: &Header) -> Option<(Direction, Direction)> {
    let texts = header.texts(tags::PATIENT_ORIENTATION);
    let [row, column] = texts.as_slice() else { return None };
    let (row, column) = (direction(row)?, direction(column)?);
    let across = [0, 1, 2].map(|axis| row[axis] * column[axis]).iter().sum::<f64>().abs();
    // Rows and columns at right angles, as far as letters tell: `L\R` is no orientation.
    (across < 0.5).then_some((row, column))
}

/// The first letter is the main direction (PS3.3 C.7.6.1.1.1).
fn direction(letters: &str) -> Option<Direction> {
    let mut sum = [0.0; 3];
    let mut weight = 1.0;
    for letter in letters.chars() {
        let (axis, sign) = match letter {
            'L' => (0, 1.0),
            'R' => (0, -1.0),
            'P' => (1, 1.0),
            'A' => (1, -1.0),
            'H' => (2, 1.0),
            'F' => (2, -1.0),
            _ => return None,
        };
        // Left and right at once is no direction.
        if sum[axis] != 0.0 {
            return None;
        }
        sum[axis] = sign * weight;
        weight /= 3.0;
    }
    (sum != [0.0; 3]).then_some(sum)
}

/// The axis of the patient that leads most straight through the image.
fn through(row: Direction, column: Direction) -> usize {
    let [x, y, z] = crate::series::cross(row, column).map(f64::abs);
    if z >= x && z >= y {
        2
    } else if y >= x {
        1
    } else {
        0
    }
}

fn wanted_of_slice(row: Direction, column: Direction) -> (Direction, Direction) {
    match through(row, column) {
        0 => (BACK, FEET),
        1 => (LEFT, FEET),
        _ => (LEFT, BACK),
    }
}

/// The turn after which rows and columns lead most nearly where they should; the first of equals.
fn best(row: Direction, column: Direction, turns: &[Turn], wanted: (Direction, Direction)) -> Turn {
    let score = |turn: Turn| {
        let [along, down] = turn.directions();
        let led = |axis: usize| -> Direction {
            std::array::from_fn(|i| f64::from(along[axis]) * row[i] + f64::from(down[axis]) * column[i])
        };
        let agreement = |a: Direction, b: Direction| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        agreement(led(0), wanted.0) + agreement(led(1), wanted.1)
    };
    let mut found = (Turn::None, f64::NEG_INFINITY);
    for turn in turns {
        let score = score(*turn);
        // Oblique slices of one stack must not fall to different sides of a tie.
        if score > found.1 + 1e-3 {
            found = (*turn, score);
        }
    }
    found.0
}
