//! The closed vocabulary: what a report may say that we understand, where, and the code it then gets.
//!
//! The rows are data: `lexicon/concepts.tsv` and `lexicon/sites.tsv`; the phrases are each language's. A row without a code
//! is shown as text: the codes that could not be verified stay out. Cardiomegaly is one of them for a reason worth
//! keeping: in the DICOM dictionaries 287272002 is labelled so, but in SNOMED CT it is an enlarged septal foramen.

use std::{fmt, sync::LazyLock};

use crate::{codes::Code, draft::Side, lexicon};

/// What a finding is about. Closed: a model cannot add to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Concept(u16);

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
    /// A device in place, or what an operation left: no abnormality.
    Device,
    /// A statement that something is normal.
    Normal,
}

/// What sort of thing a concept is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Something seen in the patient.
    Finding,
    /// A device in the patient.
    Device,
    /// An operation that was done.
    Procedure,
    /// A statement that something is as it should be.
    Normal,
}

/// The sex of a patient (0010,0040) that a concept or a place belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Sex {
    /// `F`.
    #[serde(rename = "F")]
    Female,
    /// `M`.
    #[serde(rename = "M")]
    Male,
}

/// Regions of the body that a concept, a place or an image belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Regions(u16);

const REGIONS: &[&str] = &["chest", "breast", "abdomen", "pelvis", "head", "neck", "spine", "limb"];

impl Regions {
    /// Reads `chest|neck`; `any` is all of them.
    pub(crate) fn read(cell: &'static str) -> Self {
        if cell == "any" {
            return Self(u16::MAX);
        }
        let bit = |name| REGIONS.iter().position(|region| *region == name).map_or(0, |bit| 1 << bit);
        Self(lexicon::list(cell).map(bit).fold(0, |all, bit| all | bit))
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn meet(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
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

/// A row of the vocabulary.
pub(crate) struct Row {
    pub(crate) concept: Concept,
    id: &'static str,
    /// How we say it.
    pub(crate) name: &'static str,
    pub(crate) code: Option<Code>,
    pub(crate) urgency: Urgency,
    pub(crate) sort: Sort,
    pub(crate) place: Place,
    /// Whether its place is known.
    pub(crate) own: bool,
    /// Where it is when no other place is said.
    site: Option<Site>,
    pub(crate) regions: Regions,
    pub(crate) sex: Option<Sex>,
    /// The ages in years at which it can be, both included.
    pub(crate) years: (u16, u16),
}

static VOCABULARY: LazyLock<Vec<Row>> = LazyLock::new(load);

fn load() -> Vec<Row> {
    let mut rows: Vec<Row> = lexicon::rows(include_str!("../lexicon/concepts.tsv")).filter_map(row).collect();
    for (row, number) in rows.iter_mut().zip(0..) {
        row.concept = Concept(number);
    }
    for english in lexicon::english_concepts() {
        if let [id, name, _] = english.as_slice()
            && let Some(row) = rows.iter_mut().find(|row| row.id == *id)
        {
            row.name = name;
        }
    }
    rows
}

fn row(cells: Vec<&'static str>) -> Option<Row> {
    let [id, scheme, code, meaning, urgency, place, site, sort, regions, sex, years] = *cells.as_slice() else {
        return None;
    };
    let (from, to) = years.split_once('-')?;
    Some(Row {
        concept: Concept(0),
        id,
        name: id,
        code: (code != "-").then_some(Code { value: code, scheme, meaning }),
        urgency: match urgency {
            "critical" => Urgency::Critical,
            "acute" => Urgency::Acute,
            "device" => Urgency::Device,
            "normal" => Urgency::Normal,
            _ => Urgency::Other,
        },
        sort: match sort {
            "device" => Sort::Device,
            "procedure" => Sort::Procedure,
            "normal" => Sort::Normal,
            _ => Sort::Finding,
        },
        place: match place {
            "lung" => Place::Lung,
            "side" => Place::Side,
            _ => Place::Nowhere,
        },
        own: place != "-",
        site: Site::named(site),
        regions: Regions::read(regions),
        sex: sex_of(sex),
        years: (from.parse().unwrap_or(0), to.parse().unwrap_or(u16::MAX)),
    })
}

fn sex_of(cell: &str) -> Option<Sex> {
    match cell {
        "F" => Some(Sex::Female),
        "M" => Some(Sex::Male),
        _ => None,
    }
}

impl Concept {
    /// Its row in the vocabulary.
    pub(crate) fn row(self) -> &'static Row {
        &VOCABULARY[usize::from(self.0)]
    }

    /// Every concept, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        VOCABULARY.iter().map(|row| row.concept)
    }

    /// The concept of an id such as `pleural_effusion`.
    pub fn named(id: &str) -> Option<Self> {
        VOCABULARY.iter().find(|row| row.id == id).map(|row| row.concept)
    }

    /// Its id, as in `report.json` and the schema.
    pub fn id(self) -> &'static str {
        self.row().id
    }

    pub(crate) fn is(self, id: &str) -> bool {
        self.id() == id
    }

    /// Its name as the report says it.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Its code (PS3.16 CID 6102 and others); nothing where no code could be verified.
    pub fn code(self) -> Option<Code> {
        self.row().code
    }

    /// What it means beside places, the nearest first: an effusion of the knee is none of the pleura.
    pub(crate) fn beside(self, places: impl Iterator<Item = Site>) -> Self {
        static REFINED: LazyLock<Vec<(Concept, Vec<Site>, Concept)>> = LazyLock::new(|| {
            let row = |cells: Vec<&'static str>| {
                let [general, places, special] = *cells.as_slice() else { return None };
                let places = lexicon::list(places).filter_map(Site::named).collect();
                Some((Concept::named(general)?, places, Concept::named(special)?))
            };
            lexicon::rows(include_str!("../lexicon/refine.tsv")).filter_map(row).collect()
        });
        let at = |place: Site| REFINED.iter().find(|(of, places, _)| *of == self && places.contains(&place));
        places.into_iter().find_map(at).map_or(self, |(_, _, special)| *special)
    }

    /// Where it is when the text names no other place, such as the pleura of an effusion.
    pub fn default_site(self) -> Option<Site> {
        self.row().site
    }

    /// How soon a person should look when it is present.
    pub fn urgency(self) -> Urgency {
        self.row().urgency
    }

    /// What sort of thing it is.
    pub fn sort(self) -> Sort {
        self.row().sort
    }
}

impl fmt::Debug for Concept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl serde::Serialize for Concept {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// A place in the body. Closed, as the concepts are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site(u16);

struct SiteRow {
    id: &'static str,
    code: Option<Code>,
    regions: Regions,
    /// The only side it has.
    side: Option<Side>,
    sex: Option<Sex>,
}

static SITES: LazyLock<Vec<SiteRow>> = LazyLock::new(|| {
    let row = |cells: Vec<&'static str>| {
        let [id, scheme, code, meaning, regions, side, sex] = *cells.as_slice() else { return None };
        let side = match side {
            "left" => Some(Side::Left),
            "right" => Some(Side::Right),
            _ => None,
        };
        let code = (code != "-").then_some(Code { value: code, scheme, meaning });
        Some(SiteRow { id, code, regions: Regions::read(regions), side, sex: sex_of(sex) })
    };
    lexicon::rows(include_str!("../lexicon/sites.tsv")).filter_map(row).collect()
});

impl Site {
    fn row(self) -> &'static SiteRow {
        &SITES[usize::from(self.0)]
    }

    /// Every place, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).take(SITES.len()).map(Self)
    }

    /// The place of an id such as `lower_lobe`.
    pub fn named(id: &str) -> Option<Self> {
        Self::all().find(|site| site.id() == id)
    }

    /// Its id, as in `report.json` and the schema.
    pub fn id(self) -> &'static str {
        self.row().id
    }

    /// Its code; nothing where no code could be verified.
    pub fn code(self) -> Option<Code> {
        self.row().code
    }

    pub(crate) fn regions(self) -> Regions {
        self.row().regions
    }

    /// The only side that it has, as the lingula has.
    pub(crate) fn only_side(self) -> Option<Side> {
        self.row().side
    }

    pub(crate) fn sex(self) -> Option<Sex> {
        self.row().sex
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

impl serde::Serialize for Site {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}
