//! The draft as DICOM Structured Reports: a text report (TID 2000), and a measurement report (TID 1500).

mod general;
mod measurements;
mod text_report;

use dataset::tags;

use crate::{
    Code, Error,
    codes::{
        COUNTRY_OF_LANGUAGE, DEVICE, DEVICE_OBSERVER_MANUFACTURER, DEVICE_OBSERVER_MODEL_NAME, DEVICE_OBSERVER_NAME,
        DEVICE_OBSERVER_SERIAL_NUMBER, DEVICE_OBSERVER_UID, ENGLISH, LANGUAGE, OBSERVER_TYPE, PROCEDURE_REPORTED,
        UNITED_STATES, procedure_of_modality,
    },
    content::{self, CodeValue, Item, ItemValue, TextValue},
    copy,
    document::{Completion, Document, Provenance, Source},
    header,
    references::Place,
    uids::Kind,
};

pub use crate::header::derivation;
pub use general::copy_notes;
pub(crate) use general::{key_object_document, put_evidence};
pub use measurements::{MeasurementClass, MeasurementOptions, measurement_report, results_report};
pub use text_report::{Options, TextClass, text_report};

/// An SR around a content tree. `more` are the instances, besides what was analysed, that the tree refers to.
fn finish<'a>(
    kind: Kind,
    (title, template, items): (Code, &str, &[Item]),
    source: &'a Source<'_>,
    provenance: &Provenance,
    completion: &Completion,
    more: impl IntoIterator<Item = Place<'a>>,
) -> Result<Document, Error> {
    let mut own = Vec::new();
    items.iter().for_each(|item| item.own_text(&mut own));
    if let Completion::Partial(why) = completion {
        own.push(why);
    }
    let mut object = header::begin(kind, source, provenance, &own)?;
    general::document_general(&mut object.data_set, &object.copier, provenance, completion);
    put_evidence(&mut object.data_set, source, more);
    general::put_predecessors(&mut object.data_set, source, kind);
    content::root(&mut object.data_set, title, template, items, &object.copier);
    object.finish()
}

fn procedure_reported(source: &Source<'_>) -> Item {
    let copied = copy::first_code(source.representative, tags::PROCEDURE_CODE_SEQUENCE);
    let code = copied.map_or_else(
        || CodeValue::Own(procedure_of_modality(&source.representative.header.modality())),
        CodeValue::Copied,
    );
    Item::modifier(PROCEDURE_REPORTED, ItemValue::Code(code))
}

/// TID 1204 and TID 1002: in English, by a device.
pub(crate) fn language_and_observer(provenance: &Provenance) -> Vec<Item> {
    let country = Item::modifier(COUNTRY_OF_LANGUAGE, ItemValue::Code(CodeValue::Own(UNITED_STATES)));
    let mut language = Item::modifier(LANGUAGE, ItemValue::Code(CodeValue::Own(ENGLISH)));
    language.children.push(country);
    let observer = |name, value: &str| {
        let value = content::one_line(value);
        (!value.is_empty()).then(|| Item::context(name, ItemValue::Text(TextValue::Own(value))))
    };
    let mut items = vec![
        language,
        Item::context(OBSERVER_TYPE, ItemValue::Code(CodeValue::Own(DEVICE))),
        Item::context(DEVICE_OBSERVER_UID, ItemValue::Uid(provenance.device_uid.clone())),
    ];
    items.extend(observer(DEVICE_OBSERVER_NAME, "AI report drafter"));
    items.extend(observer(DEVICE_OBSERVER_MANUFACTURER, dataset::MANUFACTURER));
    items.extend(observer(DEVICE_OBSERVER_MODEL_NAME, &provenance.model_name));
    items.extend(observer(DEVICE_OBSERVER_SERIAL_NUMBER, &provenance.device_serial));
    items
}

#[cfg(test)]
mod tests;
