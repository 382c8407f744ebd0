//! Key Object Selection (PS3.3 A.35.4, TID 2010): the images that show what was found, and the heat map.

use std::collections::BTreeSet;

use crate::{
    Error,
    codes::{KEY_OBJECT_DESCRIPTION, OF_INTEREST},
    content::{self, Item},
    document::{Document, Provenance, Source},
    header,
    localized::Region,
    references::Place,
    sr::{key_object_document, language_and_observer, put_evidence},
    text,
    uids::Kind,
};

/// The images of the regions, each frame once; all that was analysed where there are no regions. `heat_map` is the one of
/// the same reading.
pub fn key_objects<'a>(
    regions: impl IntoIterator<Item = &'a Region>,
    heat_map: Option<&Document>,
    source: &Source<'_>,
    provenance: &Provenance,
) -> Result<Document, Error> {
    let mut images: BTreeSet<(Place<'_>, Option<u32>)> =
        regions.into_iter().map(|region| (region.place(), region.frame)).collect();
    if images.is_empty() {
        images.extend(source.evidence.iter().map(|item| (Place::from(item), None)));
    }
    images.extend(heat_map.map(|heat_map| (Place::from(heat_map), None)));
    let description = Item::contains(KEY_OBJECT_DESCRIPTION, content::text(&text::first_line(provenance)));
    let mut items = language_and_observer(provenance);
    // A key object document has no modifiers of codes (PS3.3 table A.35.4-2): the language stands without its country.
    items.iter_mut().for_each(|item| item.children.clear());
    items.push(description);
    items.extend(images.iter().map(|(place, frame)| Item::image_entry(place.class, place.instance, *frame)));

    let mut own = Vec::new();
    items.iter().for_each(|item| item.own_text(&mut own));
    let mut object = header::begin(Kind::KeyObjects, source, provenance, &own)?;
    key_object_document(&mut object.data_set, &object.copier, provenance);
    put_evidence(&mut object.data_set, source, images.iter().map(|(place, _)| *place));
    content::root(&mut object.data_set, OF_INTEREST, "2010", &items, &object.copier);
    object.finish()
}
