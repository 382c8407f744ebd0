//! Where an attribute of a frame stands: its own functional group, the shared one (PS3.3 C.7.6.16), or the top level.

use dataset::{Header, Instance, tags};
use dicom_core::Tag;
use dicom_object::InMemDicomObject;

use crate::Error;

/// The macro `sequence` of a frame, counted from 0: from its own functional group before the shared one.
pub(crate) fn functional_group(instance: &Instance, frame: u32, sequence: Tag) -> Option<&InMemDicomObject> {
    let group =
        |groups: Tag, index: usize| instance.element(groups)?.items()?.get(index)?.get(sequence)?.items()?.first();
    group(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, frame as usize)
        .or_else(|| group(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, 0))
}

/// The values of a numeric attribute: nothing when absent or empty. Errors with [`Error::Malformed`] when a value is no
/// finite number.
pub(crate) fn numbers(item: &InMemDicomObject, tag: Tag, name: &str) -> Result<Option<Vec<f64>>, Error> {
    let Some(element) = item.get(tag) else { return Ok(None) };
    if element.value().primitive().is_none_or(|value| value.calculate_byte_len() == 0) {
        return Ok(None);
    }
    let malformed = || Error::malformed(format!("{name} {tag} is not a finite number"));
    // Text is read by ourselves: an empty value between two backslashes must not hide the first one.
    let values: Vec<f64> = match element.to_str() {
        Ok(text) => {
            let parts = text.split('\\').map(|part| part.trim_matches(['\0', ' '])).filter(|part| !part.is_empty());
            parts.map(|part| part.parse().map_err(|_| malformed())).collect::<Result<_, _>>()?
        }
        Err(_) => element.to_multi_float64().map_err(|_| malformed())?,
    };
    if values.iter().all(|value| value.is_finite()) {
        Ok(Some(values).filter(|v| !v.is_empty()))
    } else {
        Err(malformed())
    }
}

/// The first value of a numeric attribute, as [`numbers`].
pub(crate) fn number(item: &InMemDicomObject, tag: Tag, name: &str) -> Result<Option<f64>, Error> {
    Ok(numbers(item, tag, name)?.and_then(|values| values.first().copied()))
}

/// A text attribute without padding: nothing when absent or empty.
pub(crate) fn text(item: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = item.get(tag)?.to_str().ok()?;
    let text = text.trim_matches(['\0', ' ']);
    (!text.is_empty()).then(|| text.to_owned())
}

/// The attributes of VR FD among those that are asked of a header; the others are text.
const DOUBLES: [Tag; 4] = [
    tags::DIFFUSION_B_VALUE,
    tags::DIFFUSION_GRADIENT_ORIENTATION,
    tags::EFFECTIVE_ECHO_TIME,
    tags::NOMINAL_PERCENTAGE_OF_CARDIAC_PHASE,
];

/// The values of a numeric attribute of a header: none when absent, empty or not all finite numbers.
pub(crate) fn header_numbers(header: &Header, tag: Tag) -> Vec<f64> {
    let values: Option<Vec<f64>> = if DOUBLES.contains(&tag) {
        let double = |bytes: &[u8; 8]| match header.transfer_syntax.big_endian() {
            true => f64::from_be_bytes(*bytes),
            false => f64::from_le_bytes(*bytes),
        };
        Some(header.raw(tag).unwrap_or_default().as_chunks::<8>().0.iter().map(double).collect())
    } else {
        let texts = header.texts(tag);
        texts.iter().map(|text| text.trim_matches(['\0', ' ']).parse().ok()).collect()
    };
    values.filter(|values| values.iter().all(|value| value.is_finite())).unwrap_or_default()
}
