//! References from one instance to others (PS3.3 tables 10-11 and C.17-3).

use std::collections::{BTreeMap, BTreeSet};

use dataset::{Uid, tags};
use dicom_core::VR;

use crate::{
    document::{Document, EvidenceItem},
    elements::DataSet,
};

/// An instance and where it stands, in the order in which references are sorted: series, class, instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place<'a> {
    pub(crate) series: &'a Uid,
    pub(crate) class: &'a Uid,
    pub(crate) instance: &'a Uid,
}

impl<'a> From<&'a EvidenceItem> for Place<'a> {
    fn from(item: &'a EvidenceItem) -> Self {
        Self { series: &item.series_instance_uid, class: &item.sop_class_uid, instance: &item.sop_instance_uid }
    }
}

impl<'a> From<&'a Document> for Place<'a> {
    fn from(document: &'a Document) -> Self {
        Self {
            series: &document.series_instance_uid,
            class: &document.sop_class_uid,
            instance: &document.sop_instance_uid,
        }
    }
}

/// SOP Instance Reference macro (PS3.3 table 10-11).
pub(crate) fn reference(class: &Uid, instance: &Uid) -> DataSet {
    let mut item = DataSet::default();
    item.put_bytes(tags::REFERENCED_SOP_CLASS_UID, VR::UI, class.as_str());
    item.put_bytes(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, instance.as_str());
    item
}

/// Image SOP Instance Reference macro (PS3.3 table 10-3): with the frame, counted from 1, of a multi-frame image.
pub(crate) fn image_reference(class: &Uid, instance: &Uid, frame: Option<u32>) -> DataSet {
    let mut item = reference(class, instance);
    if let Some(frame) = frame {
        item.put_bytes(tags::REFERENCED_FRAME_NUMBER, VR::IS, frame.to_string());
    }
    item
}

/// The series that instances stand in, each instance once (the part of Hierarchical SOP Instance Reference below the
/// study, and of Presentation State Relationship); `item` makes the reference.
fn by_series<'a, T: Ord>(
    places: &BTreeSet<T>,
    series_of: impl Fn(&T) -> &'a Uid,
    sequence: dicom_core::Tag,
    item: impl Fn(&T) -> DataSet,
) -> Vec<DataSet> {
    let mut series: BTreeMap<&Uid, Vec<DataSet>> = BTreeMap::new();
    for place in places {
        series.entry(series_of(place)).or_default().push(item(place));
    }
    let made = series.into_iter().map(|(uid, references)| {
        let mut series = DataSet::default();
        series.put_bytes(tags::SERIES_INSTANCE_UID, VR::UI, uid.as_str());
        series.put_items(sequence, references);
        series
    });
    made.collect()
}

/// Hierarchical SOP Instance Reference macro (PS3.3 table C.17-3): study, series, instances, each once.
pub(crate) fn hierarchy<'a>(study: &Uid, places: impl IntoIterator<Item = Place<'a>>) -> DataSet {
    let places: BTreeSet<Place<'a>> = places.into_iter().collect();
    let series = by_series(
        &places,
        |place| place.series,
        tags::REFERENCED_SOP_SEQUENCE,
        |place| reference(place.class, place.instance),
    );
    let mut hierarchy = DataSet::default();
    hierarchy.put_bytes(tags::STUDY_INSTANCE_UID, VR::UI, study.as_str());
    hierarchy.put_items(tags::REFERENCED_SERIES_SEQUENCE, series);
    hierarchy
}

/// The items of Referenced Series Sequence (0008,1115) of a presentation state (PS3.3 C.11.11): frames by image.
pub(crate) fn presented<'a>(images: impl IntoIterator<Item = (Place<'a>, Option<u32>)>) -> Vec<DataSet> {
    let mut frames: BTreeMap<Place<'a>, BTreeSet<u32>> = BTreeMap::new();
    for (place, frame) in images {
        frames.entry(place).or_default().extend(frame);
    }
    let places: BTreeSet<Place<'a>> = frames.keys().copied().collect();
    let image = |place: &Place<'a>| {
        let mut item = reference(place.class, place.instance);
        let numbers: Vec<String> = frames.get(place).into_iter().flatten().map(ToString::to_string).collect();
        if !numbers.is_empty() {
            item.put_bytes(tags::REFERENCED_FRAME_NUMBER, VR::IS, numbers.join("\\"));
        }
        item
    };
    by_series(&places, |place| place.series, tags::REFERENCED_IMAGE_SEQUENCE, image)
}
