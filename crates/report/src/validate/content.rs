//! The content tree: value types and relationships (PS3.3 A.35), items whole (C.17.3), references in the evidence
//! (C.17.2.3), the codes (one closed table), and the rules without which OHIF goes blank.

use std::collections::{BTreeMap, BTreeSet};

use dataset::tags;

use super::{Violations, Weight, encoding::decimal, iod::has_value, template};
use crate::{codes, elements::DataSet, uids::Kind, values::trimmed};

/// An SR SOP class: what its trees may hold (PS3.3 A.35.1 to A.35.13).
struct Class {
    uid: &'static str,
    value_types: &'static [&'static [&'static str]],
    by_reference: bool,
}

const TEXT: &[&str] =
    &["CONTAINER", "TEXT", "CODE", "DATETIME", "DATE", "TIME", "UIDREF", "PNAME", "COMPOSITE", "IMAGE", "WAVEFORM"];
/// What an Enhanced SR has besides.
const ENHANCED: &[&str] = &["NUM", "SCOORD", "TCOORD"];
/// What a Comprehensive 3D SR has besides.
const SPATIAL: &[&str] = &["NUM", "SCOORD", "TCOORD", "SCOORD3D"];
const KEY_OBJECTS: &[&str] = &["CONTAINER", "TEXT", "CODE", "UIDREF", "PNAME", "COMPOSITE", "IMAGE", "WAVEFORM"];

const CLASSES: &[Class] = &[
    Class { uid: "1.2.840.10008.5.1.4.1.1.88.11", value_types: &[TEXT], by_reference: false },
    Class { uid: "1.2.840.10008.5.1.4.1.1.88.22", value_types: &[TEXT, ENHANCED], by_reference: false },
    Class { uid: "1.2.840.10008.5.1.4.1.1.88.33", value_types: &[TEXT, ENHANCED], by_reference: true },
    Class { uid: "1.2.840.10008.5.1.4.1.1.88.34", value_types: &[TEXT, SPATIAL], by_reference: true },
    Class { uid: KEY_OBJECT_SELECTION, value_types: &[KEY_OBJECTS], by_reference: false },
];

const KEY_OBJECT_SELECTION: &str = "1.2.840.10008.5.1.4.1.1.88.59";
const MEASUREMENT_REPORT: &str = "126000";
const PROCEDURE_REPORTED: &str = "121058";
pub(super) const MEASUREMENT_GROUP: &str = "125007";

/// Titles of CID 7000, whose template is TID 2000.
const REPORT_TITLES: &[&str] = &["18748-4", "24627-2", "25045-6", "25056-3", "43468-8", "25061-3", "24606-6"];

/// Titles of CID 7010, whose template is TID 2010.
const KEY_OBJECT_TITLES: &[&str] = &[
    "113000", "113001", "113002", "113003", "113004", "113005", "113006", "113007", "113008", "113009", "113010",
    "113013", "113018", "113020", "113021", "113030", "113031", "113035", "113036", "113037", "113038", "113039",
];

/// Those of them that reject what they name (IHE RAD, Imaging Object Change Management).
const REJECTION_TITLES: &[&str] = &["113001", "113037", "113038", "113039"];

/// Units that we write (UCUM codes, case sensitive).
const UNITS: &[&str] = &[
    "mm",
    "cm",
    "mm2",
    "cm2",
    "mm3",
    "cm3",
    "ml",
    "%",
    "1",
    "deg",
    "s",
    "ms",
    "[hnsf'U]",
    "{ratio}",
    "{counts}",
    "kg",
    "g",
    "mm2/s",
    "g/ml",
    "Bq/ml",
    "{SUVbw}g/ml",
    "mGy",
    "{pixels}",
];

/// The code value of the item's concept name; empty without one.
pub(super) fn name(item: &DataSet) -> &str {
    item.items(tags::CONCEPT_NAME_CODE_SEQUENCE).first().map_or("", |code| code.plain(tags::CODE_VALUE))
}

/// The code value of a CODE item's value.
fn coded(item: &DataSet) -> &str {
    item.items(tags::CONCEPT_CODE_SEQUENCE).first().map_or("", |code| code.plain(tags::CODE_VALUE))
}

pub(super) fn value_type(item: &DataSet) -> &str {
    item.plain(tags::VALUE_TYPE)
}

pub(super) fn children(item: &DataSet) -> &[DataSet] {
    item.items(tags::CONTENT_SEQUENCE)
}

/// Whether something holds for an item below this one.
fn any_below(item: &DataSet, holds: &dyn Fn(&DataSet) -> bool) -> bool {
    children(item).iter().any(|child| holds(child) || any_below(child, holds))
}

/// Checks the content tree of a document that has one.
pub(super) fn check(root: &DataSet, found: &mut Violations) {
    let uid = root.plain(tags::SOP_CLASS_UID);
    let Some(class) = CLASSES.iter().find(|class| class.uid == uid) else { return };
    let ours = root.plain(tags::MANUFACTURER) == dataset::MANUFACTURER;
    found.require(!children(root).is_empty(), "root", "1", "a tree without content");
    // Every title but that of a measurement report is shown as text, whole.
    let text_report = name(root) != MEASUREMENT_REPORT && uid != KEY_OBJECT_SELECTION;
    let mut walk = Walk { class, text_report, ours, references: BTreeMap::new(), found };
    walk.item(root, "1");
    walk.below(root, "1");
    let references = std::mem::take(&mut walk.references);
    evidence(root, &references, found);
    template(root, ours, found);
    if uid != KEY_OBJECT_SELECTION {
        observer(root, found);
    }
    if name(root) == MEASUREMENT_REPORT {
        measurement_report(root, found);
    }
}

struct Walk<'a> {
    class: &'static Class,
    /// Whether a viewer shows the whole tree as text.
    text_report: bool,
    /// Whether we wrote it, so that every code is from our table.
    ours: bool,
    /// Referenced instances: UID, with class and the position of the first reference.
    references: BTreeMap<String, (String, String)>,
    found: &'a mut Violations,
}

impl Walk<'_> {
    fn below(&mut self, parent: &DataSet, at: &str) {
        for (number, child) in children(parent).iter().enumerate() {
            let at = format!("{at}.{}", number + 1);
            self.relationship(parent, child, &at);
            self.item(child, &at);
            self.below(child, &at);
        }
    }

    fn relationship(&mut self, parent: &DataSet, child: &DataSet, at: &str) {
        if child.get(tags::REFERENCED_CONTENT_ITEM_IDENTIFIER).is_some() {
            let allowed = self.class.by_reference;
            self.found.require(allowed, "by-reference", at, "this SOP class has no relationships by reference");
            return;
        }
        let relationship = child.plain(tags::RELATIONSHIP_TYPE);
        let legal = legal(value_type(parent), relationship, value_type(child));
        self.found.require(legal, "relationship", at, "a relationship that these two items cannot have (PS3.3 A.35)");
        let unnamed = value_type(parent) == "CONTAINER" && value_type(child) == "IMAGE" && name(child).is_empty();
        self.found.require(
            !(unnamed && self.text_report),
            "unnamed-image",
            at,
            "an IMAGE without concept name in a container of a text report blanks OHIF",
        );
    }

    fn item(&mut self, item: &DataSet, at: &str) {
        let value_type = value_type(item);
        if item.get(tags::REFERENCED_CONTENT_ITEM_IDENTIFIER).is_some() {
            return;
        }
        let allowed = self.class.value_types.iter().any(|types| types.contains(&value_type));
        self.found.require(allowed, "value-type", at, "a value type that this SOP class does not have");
        let named = matches!(value_type, "TEXT" | "NUM" | "CODE" | "DATETIME" | "DATE" | "TIME" | "UIDREF" | "PNAME");
        self.found.require(!named || !name(item).is_empty(), "name", at, "an item of this type needs a concept name");
        let (tag, sentence) = match value_type {
            "TEXT" => (tags::TEXT_VALUE, "a TEXT without text"),
            "CODE" => (tags::CONCEPT_CODE_SEQUENCE, "a CODE without code"),
            "UIDREF" => (tags::UID, "a UIDREF without UID"),
            "PNAME" => (tags::PERSON_NAME, "a PNAME without name"),
            "DATE" => (tags::DATE, "a DATE without date"),
            "TIME" => (tags::TIME, "a TIME without time"),
            "DATETIME" => (tags::DATE_TIME, "a DATETIME without value"),
            "IMAGE" | "COMPOSITE" | "WAVEFORM" => (tags::REFERENCED_SOP_SEQUENCE, "a reference to nothing"),
            "SCOORD" | "SCOORD3D" => (tags::GRAPHIC_DATA, "coordinates without points"),
            "CONTAINER" => (tags::CONTINUITY_OF_CONTENT, "a CONTAINER without Continuity Of Content (type 1)"),
            _ => (tags::VALUE_TYPE, "an item without value type"),
        };
        self.found.require(has_value(item, tag), "item", at, sentence);
        self.codes(item, at);
        match value_type {
            "NUM" => self.number(item, at),
            "SCOORD" | "SCOORD3D" => self.coordinates(item, at),
            "CODE" => self.language(item, at),
            "IMAGE" | "COMPOSITE" | "WAVEFORM" => self.reference(item, at),
            "CONTAINER" => {
                let continuity = item.plain(tags::CONTINUITY_OF_CONTENT);
                let good = matches!(continuity, "" | "SEPARATE" | "CONTINUOUS");
                self.found.require(good, "flag", at, "Continuity Of Content is SEPARATE or CONTINUOUS");
            }
            _ => {}
        }
    }

    /// In a document of ours every code is one of the table, with the meaning that it has there, or was taken over.
    fn codes(&mut self, item: &DataSet, at: &str) {
        let units = item.items(tags::MEASURED_VALUE_SEQUENCE).iter();
        let units = units.flat_map(|measured| measured.items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE));
        // The procedure is the study's own code where it has one.
        let values = if name(item) == PROCEDURE_REPORTED { &[] } else { item.items(tags::CONCEPT_CODE_SEQUENCE) };
        for code in item.items(tags::CONCEPT_NAME_CODE_SEQUENCE).iter().chain(values).chain(units) {
            let part = |tag| code.plain(tag);
            let known = || {
                codes::all().any(|known| {
                    known.value == part(tags::CODE_VALUE)
                        && known.scheme == part(tags::CODING_SCHEME_DESIGNATOR)
                        && code.bytes(tags::CODE_MEANING).map(trimmed) == Some(known.meaning.as_bytes())
                })
            };
            if self.ours && !known() {
                self.found.breach("code-table", at, "a code that is not in our table, or not with this meaning");
            }
        }
    }

    /// PS3.3 C.18.1: a number, or the reason why there is none.
    fn number(&mut self, item: &DataSet, at: &str) {
        let Some(measured) = item.items(tags::MEASURED_VALUE_SEQUENCE).first() else {
            let reason = has_value(item, tags::NUMERIC_VALUE_QUALIFIER_CODE_SEQUENCE);
            let good = reason && item.get(tags::MEASURED_VALUE_SEQUENCE).is_some();
            self.found.require(good, "number", at, "a NUM without value and without the reason why");
            return;
        };
        let value = measured.plain(tags::NUMERIC_VALUE);
        let good = !value.is_empty() && value.len() <= 16 && decimal(value);
        self.found.require(good, "number", at, "Numeric Value is a decimal of at most 16 characters");
        let unit = measured.items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE).first();
        let known = unit.is_some_and(|unit| {
            unit.plain(tags::CODING_SCHEME_DESIGNATOR) != "UCUM" || UNITS.contains(&unit.plain(tags::CODE_VALUE))
        });
        self.found.require(known, "unit", at, "a NUM without unit, or with none that we write (UCUM)");
    }

    /// PS3.3 C.18.6 and C.18.9: how many numbers each graphic has, and what it was drawn on.
    fn coordinates(&mut self, item: &DataSet, at: &str) {
        let spatial = value_type(item) == "SCOORD3D";
        let bytes = item.bytes(tags::GRAPHIC_DATA).unwrap_or_default();
        let per_point = if spatial { 12 } else { 8 };
        let points = bytes.len() / per_point;
        let fits = match item.plain(tags::GRAPHIC_TYPE) {
            "POINT" => points == 1,
            "CIRCLE" => points == 2,
            "ELLIPSE" => points == 4,
            "ELLIPSOID" => points == 6,
            "MULTIPOINT" => points >= 1,
            "POLYLINE" | "POLYGON" => points >= 2,
            _ => false,
        };
        let whole = bytes.len().is_multiple_of(per_point);
        self.found.require(whole && fits, "graphic", at, "Graphic Data does not fit Graphic Type");
        if !spatial {
            let drawn_on = children(item).iter().any(|child| child.plain(tags::RELATIONSHIP_TYPE) == "SELECTED FROM");
            self.found.require(drawn_on, "graphic", at, "a SCOORD without the image it was drawn on");
            let region = name(item) == "111030" && item.plain(tags::GRAPHIC_TYPE) == "POLYLINE" && whole;
            let closed = !region || points < 2 || bytes[..8] == bytes[bytes.len() - 8..];
            self.found.require(closed, "graphic", at, "the POLYLINE of an Image Region is not closed");
        }
    }

    /// CID 5000: languages are those of RFC 5646, `en` and not `eng`.
    fn language(&mut self, item: &DataSet, at: &str) {
        if name(item) == "121049" {
            let code = item.items(tags::CONCEPT_CODE_SEQUENCE).first();
            let good = code.is_some_and(|code| {
                let primary = code.plain(tags::CODE_VALUE).split('-').next().unwrap_or("");
                code.plain(tags::CODING_SCHEME_DESIGNATOR) == "RFC5646"
                    && primary.len() == 2
                    && primary.bytes().all(|byte| byte.is_ascii_lowercase())
            });
            self.found.require(good, "language", at, "the language is no two-letter code of RFC5646");
        }
    }

    fn reference(&mut self, item: &DataSet, at: &str) {
        for reference in item.items(tags::REFERENCED_SOP_SEQUENCE) {
            let class = reference.plain(tags::REFERENCED_SOP_CLASS_UID);
            let instance = reference.plain(tags::REFERENCED_SOP_INSTANCE_UID);
            let whole = !class.is_empty() && !instance.is_empty();
            self.found.require(whole, "item", at, "a reference without class or instance");
            self.references.entry(instance.to_owned()).or_insert_with(|| (class.to_owned(), at.to_owned()));
        }
    }
}

/// The relationships of the Enhanced and Comprehensive SR, of which Basic Text has a part (PS3.3 tables A.35.1-2,
/// A.35.2-2, A.35.3-2); value types are checked apart.
fn legal(source: &str, relationship: &str, target: &str) -> bool {
    let leaf =
        matches!(target, "TEXT" | "CODE" | "NUM" | "DATETIME" | "DATE" | "TIME" | "UIDREF" | "PNAME" | "COMPOSITE");
    let evidence = leaf || matches!(target, "IMAGE" | "WAVEFORM" | "SCOORD" | "TCOORD" | "SCOORD3D" | "CONTAINER");
    match relationship {
        "CONTAINS" => source == "CONTAINER" && evidence,
        "HAS OBS CONTEXT" => matches!(source, "CONTAINER" | "TEXT" | "CODE" | "NUM") && leaf,
        "HAS CONCEPT MOD" => matches!(target, "TEXT" | "CODE"),
        "HAS ACQ CONTEXT" => {
            matches!(source, "CONTAINER" | "IMAGE" | "WAVEFORM" | "COMPOSITE" | "NUM")
                && (leaf || target == "CONTAINER")
        }
        "HAS PROPERTIES" | "INFERRED FROM" => matches!(source, "TEXT" | "CODE" | "NUM") && evidence,
        "SELECTED FROM" => match source {
            "SCOORD" => target == "IMAGE",
            "TCOORD" => matches!(target, "IMAGE" | "SCOORD" | "WAVEFORM" | "SCOORD3D"),
            _ => false,
        },
        _ => false,
    }
}

/// Every instance that the tree refers to stands in the evidence, with the same class (PS3.3 C.17.2.3).
fn evidence(root: &DataSet, references: &BTreeMap<String, (String, String)>, found: &mut Violations) {
    let mut listed: BTreeSet<(&str, &str)> = BTreeSet::new();
    for tag in [tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, tags::PERTINENT_OTHER_EVIDENCE_SEQUENCE] {
        for study in root.items(tag) {
            let whole =
                has_value(study, tags::STUDY_INSTANCE_UID) && has_value(study, tags::REFERENCED_SERIES_SEQUENCE);
            found.require(whole, "evidence", "evidence", "a study without UID or series");
            for series in study.items(tags::REFERENCED_SERIES_SEQUENCE) {
                let whole =
                    has_value(series, tags::SERIES_INSTANCE_UID) && has_value(series, tags::REFERENCED_SOP_SEQUENCE);
                found.require(whole, "evidence", "evidence", "a series without UID or instances");
                for reference in series.items(tags::REFERENCED_SOP_SEQUENCE) {
                    listed.insert((
                        reference.plain(tags::REFERENCED_SOP_INSTANCE_UID),
                        reference.plain(tags::REFERENCED_SOP_CLASS_UID),
                    ));
                }
            }
        }
    }
    for (instance, (class, at)) in references {
        let there = listed.contains(&(instance.as_str(), class.as_str()));
        found.require(there, "evidence", at, "refers to an instance that is not in the evidence");
    }
    if REJECTION_TITLES.contains(&name(root)) {
        // An archive takes one list or the other for what is rejected.
        let more = listed.iter().any(|(instance, _)| !references.contains_key(*instance));
        found.require(!more, "evidence", "evidence", "a rejection note whose evidence has more than it names");
    }
    if root.plain(tags::MANUFACTURER) == dataset::MANUFACTURER {
        found.require(!listed.is_empty(), "evidence", "evidence", "our documents say what they were made from");
    }
}

/// Content Template Sequence (0040,A504), and the rows of that template.
fn template(root: &DataSet, ours: bool, found: &mut Violations) {
    let identification = root.items(tags::CONTENT_TEMPLATE_SEQUENCE).first();
    let identifier = identification.map_or("", |item| item.plain(tags::TEMPLATE_IDENTIFIER));
    let resource = identification.map_or("", |item| item.plain(tags::MAPPING_RESOURCE));
    let expected = match name(root) {
        MEASUREMENT_REPORT => Some("1500"),
        title if REPORT_TITLES.contains(&title) => Some("2000"),
        title if KEY_OBJECT_TITLES.contains(&title) => Some("2010"),
        _ => None,
    };
    let good = resource == "DCMR" && expected.map_or(!identifier.is_empty(), |expected| identifier == expected);
    found.require(good, "template", "ContentTemplateSequence", "does not name the template of this title (PS3.16)");
    if let Some(expected) = expected {
        template::check(root, expected, "1", ours, found);
    }
    if ours && expected == Some("2000") {
        let first = children(root).iter().find(|child| value_type(child) == "CONTAINER");
        let first = first.and_then(|section| children(section).first());
        let marked = first.is_some_and(|line| {
            line.bytes(tags::TEXT_VALUE).is_some_and(|text| text.starts_with(b"AI-GENERATED DRAFT - NOT VERIFIED"))
        });
        found.require(marked, "draft", "1", "the first line does not say that this is an unverified draft");
    }
}

/// TID 1002 to 1004: a device says which one; a document that no person observed is neither verified nor final.
fn observer(root: &DataSet, found: &mut Violations) {
    let observers: Vec<&str> = children(root).iter().filter(|child| name(child) == "121005").map(coded).collect();
    let identified = children(root).iter().any(|child| name(child) == "121012" && has_value(child, tags::UID));
    if observers.contains(&"121007") {
        found.require(identified, "observer", "1", "a device observer without its UID (TID 1004)");
    }
    if observers == ["121007"] {
        let unverified = root.plain(tags::VERIFICATION_FLAG) != "VERIFIED";
        found.require(unverified, "draft", "VerificationFlag", "nobody but a device observed what is VERIFIED here");
        let preliminary = root.plain(tags::PRELIMINARY_FLAG) == "PRELIMINARY";
        found.require(preliminary, "draft", "PreliminaryFlag", "what only a device observed is PRELIMINARY");
    }
    if root.plain(tags::MANUFACTURER) == dataset::MANUFACTURER {
        found.require(identified, "observer", "1", "our documents name the device that observed");
    }
}

/// What OHIF needs of a measurement report in order to show anything at all. Study-level results have no region to show:
/// the document that we mark as such is for programs, and stands beside a text report (see [`super::validate_all`]).
fn measurement_report(root: &DataSet, found: &mut Violations) {
    let described = root.plain(tags::SERIES_DESCRIPTION);
    let ours = root.plain(tags::MANUFACTURER) == dataset::MANUFACTURER;
    let results = ours && Kind::of(root.plain(tags::SOP_CLASS_UID), described) == Some(Kind::Results);
    let weight = if results { Weight::Remark } else { Weight::Breach };
    let drawn = |item: &DataSet| value_type(item) == "SCOORD";
    if !any_below(root, &drawn) {
        found.add(weight, "blank-viewer", "1", "a measurement report without any SCOORD blanks OHIF");
    }
    groups(root, "1", &mut |group, at| {
        if !any_below(group, &drawn) {
            found.add(weight, "blank-viewer", at, "a measurement group without SCOORD blanks OHIF");
        }
        for (identifier, sentence) in [
            ("112039", "a measurement group without Tracking Identifier"),
            ("112040", "a measurement group without Tracking Unique Identifier"),
        ] {
            let there = children(group).iter().any(|child| name(child) == identifier);
            found.require(there, "tracking", at, sentence);
        }
        // OHIF takes the first UIDREF of a group for its tracking identifier.
        let first = children(group).iter().find(|child| value_type(child) == "UIDREF");
        let first_tracks = first.is_none_or(|first| name(first) == "112040");
        found.require(first_tracks, "tracking", at, "a UIDREF before the Tracking Unique Identifier");
    });
    qualitative(root, "1", found);
}

fn groups(item: &DataSet, at: &str, visit: &mut dyn FnMut(&DataSet, &str)) {
    for (number, child) in children(item).iter().enumerate() {
        let at = format!("{at}.{}", number + 1);
        if name(child) == MEASUREMENT_GROUP {
            visit(child, &at);
        }
        groups(child, &at, visit);
    }
}

/// TID 1500 row 12: no numbers among the qualitative evaluations.
fn qualitative(root: &DataSet, at: &str, found: &mut Violations) {
    for (number, child) in children(root).iter().enumerate() {
        if name(child) == "C0034375" {
            let number_inside = any_below(child, &|item| value_type(item) == "NUM");
            let at = format!("{at}.{}", number + 1);
            found.require(!number_inside, "qualitative", at, "a NUM among the Qualitative Evaluations");
        }
    }
}
