//! From stored values to grey levels: modality transformation (PS3.3 C.11.1), then VOI transformation (C.11.2).

use dataset::{Instance, tags};
use dicom_object::InMemDicomObject;
use ndarray::ArrayD;

use crate::{
    Error, Samples,
    groups::{functional_group, number, numbers, text},
    image_pixel::{ImagePixel, Photometric, Stored},
    lut::{Descriptor, Lut, lut_entries},
};

/// Which values of interest are spread over the grey levels.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(tag = "rule")]
pub enum Window {
    /// PS3.3 C.11.2.1.2.1, the default of VOI LUT Function (0028,1056).
    #[serde(rename = "LINEAR")]
    Linear {
        /// Window Center (0028,1050), in modality units.
        center: f64,
        /// Window Width (0028,1051), at least 1.
        width: f64,
    },
    /// PS3.3 C.11.2.1.3.2.
    #[serde(rename = "LINEAR_EXACT")]
    LinearExact {
        /// Window Center, in modality units.
        center: f64,
        /// Window Width, more than 0.
        width: f64,
    },
    /// PS3.3 C.11.2.1.3.1.
    #[serde(rename = "SIGMOID")]
    Sigmoid {
        /// Window Center, in modality units.
        center: f64,
        /// Window Width, more than 0.
        width: f64,
    },
    /// An item of VOI LUT Sequence (0028,3010).
    #[serde(rename = "VOI_LUT")]
    VoiLut {
        /// Bits of an entry; the highest one that they can express is white.
        bits: u32,
        /// Which one, counted from 0; the first one where there is none of this number.
        item: u32,
    },
    /// No window in the file: the lowest value of the frame is black, the highest white. This is what most public
    /// training sets of radiographs were made with, so a model has seen it.
    #[serde(rename = "MIN_MAX")]
    MinMax {
        /// The lowest value, in modality units.
        low: f64,
        /// The highest value, in modality units.
        high: f64,
    },
}

impl Window {
    fn is_valid(self) -> bool {
        match self {
            Self::Linear { width, .. } => width >= 1.0,
            Self::LinearExact { width, .. } | Self::Sigmoid { width, .. } => width > 0.0,
            Self::VoiLut { .. } | Self::MinMax { .. } => true,
        }
    }
}

/// Whether Pixel Padding Value (0028,0120) counts when a frame's lowest and highest value are sought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    Counts,
    DoesNotCount,
}

#[derive(Debug, Clone, PartialEq)]
enum Modality {
    Identity,
    Rescale { slope: f64, intercept: f64 },
    Lut(Lut),
}

impl Modality {
    fn apply(&self, stored: f64) -> f64 {
        match self {
            Self::Identity => stored,
            Self::Rescale { slope, intercept } => stored * slope + intercept,
            Self::Lut(lut) => lut.at(stored),
        }
    }
}

/// The transformation of one frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grey {
    modality: Modality,
    voi_lut: Option<Lut>,
    pub(crate) window: Window,
    /// Whether the display shows the highest value black: MONOCHROME1 or Presentation LUT Shape INVERSE.
    pub(crate) inverted: bool,
    /// What had to be decided against or beyond the header.
    pub(crate) notes: Vec<String>,
}

impl Grey {
    /// Reads the transformation of a frame. `window` takes the place of what the file asks for.
    pub(crate) fn of(
        instance: &Instance,
        frame: u32,
        image: &ImagePixel,
        samples: &Samples,
        window: Option<Window>,
        padding: Padding,
    ) -> Result<Self, Error> {
        let mut notes = Vec::new();
        let modality = modality(instance, frame, image, &mut notes)?;
        let shape = text(instance.object(), tags::PRESENTATION_LUT_SHAPE);
        let inverted = image.photometric == Photometric::Monochrome1 || shape.as_deref() == Some("INVERSE");
        let chosen = match window.filter(|window| window.is_valid()) {
            Some(Window::VoiLut { item, .. }) => voi(instance, frame, image, &modality, Some(item), &mut notes)?,
            Some(window) => Some((window, None)),
            None => voi(instance, frame, image, &modality, None, &mut notes)?,
        };
        let (window, voi_lut) = match chosen {
            Some(chosen) => chosen,
            None => (min_max(instance, image, samples, &modality, padding), None),
        };
        Ok(Self { modality, voi_lut, window, inverted, notes })
    }

    /// A stored value in modality units.
    pub(crate) fn value(&self, stored: f64) -> f64 {
        self.modality.apply(stored)
    }

    /// The grey level of a stored value, 0 to 255, neither rounded nor inverted; never NaN.
    pub(crate) fn level(&self, stored: f64) -> f64 {
        const WHITE: f64 = 255.0;
        let value = self.modality.apply(stored);
        let level = match self.window {
            Window::Linear { center, width } => {
                let (center, half) = (center - 0.5, (width - 1.0) / 2.0);
                if value <= center - half {
                    0.0
                } else if value > center + half {
                    WHITE
                } else {
                    ((value - center) / (width - 1.0) + 0.5) * WHITE
                }
            }
            Window::LinearExact { center, width } => ((value - center) / width + 0.5) * WHITE,
            Window::Sigmoid { center, width } => WHITE / (1.0 + (-4.0 * (value - center) / width).exp()),
            Window::VoiLut { bits, .. } => {
                let highest = f64::from((1u32 << bits) - 1);
                self.voi_lut.as_ref().map_or(0.0, |lut| lut.at(value)) / highest * WHITE
            }
            Window::MinMax { low, high } if high > low => (value - low) / (high - low) * WHITE,
            Window::MinMax { .. } => 0.0,
        };
        // Not `clamp`, which would leave a NaN, as from Float Pixel Data, one.
        #[expect(clippy::manual_clamp)]
        level.max(0.0).min(WHITE)
    }
}

fn modality(instance: &Instance, frame: u32, image: &ImagePixel, notes: &mut Vec<String>) -> Result<Modality, Error> {
    if let Some(group) = functional_group(instance, frame, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE)
        && let Some(rescale) = rescale(group, notes)?
    {
        return Ok(rescale);
    }
    let sequence = instance.element(tags::MODALITY_LUT_SEQUENCE).and_then(|element| element.items()?.first());
    if let Some(item) = sequence {
        return Ok(Modality::Lut(read_lut(item, image.signed())?));
    }
    Ok(rescale(instance.object(), notes)?.unwrap_or(Modality::Identity))
}

/// Rescale Slope and Intercept. The formula holds for a slope of 0 too: then every value is the intercept.
fn rescale(item: &InMemDicomObject, notes: &mut Vec<String>) -> Result<Option<Modality>, Error> {
    let slope = number(item, tags::RESCALE_SLOPE, "Rescale Slope")?;
    let intercept = number(item, tags::RESCALE_INTERCEPT, "Rescale Intercept")?;
    if slope == Some(0.0) {
        notes.push("Rescale Slope (0028,1053) is 0: the frame is uniform".to_owned());
    }
    if slope.is_none() && intercept.is_none() {
        return Ok(None);
    }
    Ok(Some(Modality::Rescale { slope: slope.unwrap_or(1.0), intercept: intercept.unwrap_or(0.0) }))
}

/// The table of an item of Modality LUT Sequence or VOI LUT Sequence.
fn read_lut(item: &InMemDicomObject, signed: bool) -> Result<Lut, Error> {
    let missing = || Error::malformed("an item of a LUT sequence lacks its LUT Descriptor or LUT Data");
    let descriptor = Descriptor::of(item.get(tags::LUT_DESCRIPTOR).ok_or_else(missing)?, signed)?;
    let entries = lut_entries(item.get(tags::LUT_DATA).ok_or_else(missing)?, &descriptor)?;
    Ok(Lut { descriptor, entries })
}

/// A window or VOI LUT that a file offers for a frame.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Offered {
    /// Window Center & Width Explanation (0028,1055) or LUT Explanation (0028,3003).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// What it is. The window of [`RenderOptions`](crate::RenderOptions) takes it.
    pub window: Window,
}

/// What a file offers for a frame, counted from 0, in the file's order: VOI LUTs first, then windows; those of the
/// frame's functional group (PS3.3 C.7.6.16.2.10), or else those of the top level. What has an impossible width is left
/// out. Errors with [`Error::Malformed`].
pub fn offered_windows(instance: &Instance, frame: u32) -> Result<Vec<Offered>, Error> {
    let mut unused = Vec::new();
    for item in voi_items(instance, frame) {
        let mut offered = offered_luts(item);
        offered.extend(windows(item, &mut unused)?);
        if !offered.is_empty() {
            return Ok(offered);
        }
    }
    Ok(Vec::new())
}

/// The first of `offered` whose explanation is `words`, or else the first whose explanation has them in it; case makes
/// no difference.
pub fn window_explained(offered: &[Offered], words: &str) -> Option<Window> {
    let words = words.trim().to_lowercase();
    let explained = |fits: &dyn Fn(&str) -> bool| {
        let explanation =
            |one: &&Offered| one.explanation.as_ref().is_some_and(|text| fits(&text.trim().to_lowercase()));
        offered.iter().find(explanation).map(|one| one.window)
    };
    explained(&|text| text == words).or_else(|| explained(&|text| text.contains(&words)))
}

/// The window of `offered` whose width is nearest to `width`, in modality units; the first of equals. No VOI LUT has one.
pub fn window_of_width(offered: &[Offered], width: f64) -> Option<Window> {
    let off = |one: &Offered| match one.window {
        Window::Linear { width: its, .. }
        | Window::LinearExact { width: its, .. }
        | Window::Sigmoid { width: its, .. } => Some((one.window, (its - width).abs())),
        _ => None,
    };
    offered.iter().filter_map(off).min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(window, _)| window)
}

/// Where VOI LUTs and windows stand: the frame's functional group before the top level.
fn voi_items(instance: &Instance, frame: u32) -> impl Iterator<Item = &InMemDicomObject> {
    let group = functional_group(instance, frame, tags::FRAME_VOILUT_SEQUENCE);
    let top_level: &InMemDicomObject = instance.object();
    group.into_iter().chain([top_level])
}

fn lut_items(item: &InMemDicomObject) -> &[InMemDicomObject] {
    item.get(tags::VOILUT_SEQUENCE).and_then(|element| element.items()).unwrap_or_default()
}

fn offered_luts(item: &InMemDicomObject) -> Vec<Offered> {
    let offered = |(number, item): (u32, &InMemDicomObject)| {
        let descriptor = Descriptor::of(item.get(tags::LUT_DESCRIPTOR)?, false).ok()?;
        let window = Window::VoiLut { bits: descriptor.bits, item: number };
        Some(Offered { explanation: text(item, tags::LUT_EXPLANATION), window })
    };
    (0..).zip(lut_items(item)).filter_map(offered).collect()
}

/// What the file says of a frame: the VOI LUT that is asked for by its number or else the first one, or else the first
/// window; of the frame's functional group before the top level.
fn voi(
    instance: &Instance,
    frame: u32,
    image: &ImagePixel,
    modality: &Modality,
    number: Option<u32>,
    notes: &mut Vec<String>,
) -> Result<Option<(Window, Option<Lut>)>, Error> {
    let signed = match modality {
        Modality::Identity => image.signed(),
        Modality::Rescale { slope, intercept } => image.signed() || *slope < 0.0 || *intercept < 0.0,
        Modality::Lut(_) => false,
    };
    for item in voi_items(instance, frame) {
        let luts = lut_items(item);
        let number = number.filter(|number| (*number as usize) < luts.len()).unwrap_or(0);
        if let Some(lut) = luts.get(number as usize) {
            let lut = read_lut(lut, signed)?;
            return Ok(Some((Window::VoiLut { bits: lut.descriptor.bits, item: number }, Some(lut))));
        }
        if let Some(offered) = windows(item, notes)?.into_iter().next() {
            return Ok(Some((offered.window, None)));
        }
    }
    Ok(None)
}

/// The windows of an item whose width is one, in order.
fn windows(item: &InMemDicomObject, notes: &mut Vec<String>) -> Result<Vec<Offered>, Error> {
    let centers = numbers(item, tags::WINDOW_CENTER, "Window Center")?.unwrap_or_default();
    let widths = numbers(item, tags::WINDOW_WIDTH, "Window Width")?.unwrap_or_default();
    let function = text(item, tags::VOILUT_FUNCTION);
    let shape: fn(f64, f64) -> Window = match function.as_deref() {
        Some("LINEAR_EXACT") => |center, width| Window::LinearExact { center, width },
        Some("SIGMOID") => |center, width| Window::Sigmoid { center, width },
        _ => |center, width| Window::Linear { center, width },
    };
    if !matches!(function.as_deref(), None | Some("LINEAR" | "LINEAR_EXACT" | "SIGMOID")) {
        notes.push("VOI LUT Function (0028,1056) is unknown: LINEAR is taken".to_owned());
    }
    let explanations = text(item, tags::WINDOW_CENTER_WIDTH_EXPLANATION).unwrap_or_default();
    let explanations = explanations.split('\\').map(|words| Some(words.trim().to_owned()).filter(|it| !it.is_empty()));
    let explanations = explanations.chain(std::iter::repeat(None));
    let offered = centers.into_iter().zip(widths).zip(explanations);
    let offered = offered.map(|((center, width), explanation)| Offered { explanation, window: shape(center, width) });
    let (valid, invalid): (Vec<Offered>, Vec<Offered>) = offered.partition(|offered| offered.window.is_valid());
    if !invalid.is_empty() {
        notes.push("Window Width (0028,1051) is less than PS3.3 C.11.2.1.2 allows: the window is not used".to_owned());
    }
    Ok(valid)
}

fn min_max(
    instance: &Instance,
    image: &ImagePixel,
    samples: &Samples,
    modality: &Modality,
    padding: Padding,
) -> Window {
    let padded = match padding {
        Padding::Counts => None,
        Padding::DoesNotCount => padding_range(instance, image),
    };
    let range = |counted: &dyn Fn(f64) -> bool| {
        let values = distinct(samples, counted).into_iter().map(|stored| modality.apply(stored));
        values.fold(None, |range, value| {
            let (low, high) = range.unwrap_or((value, value));
            Some((f64::min(low, value), f64::max(high, value)))
        })
    };
    let counted = |stored: f64| padded.is_none_or(|(low, high)| stored < low || stored > high);
    // A frame of padding alone is still a frame.
    let (low, high) = range(&counted).or_else(|| range(&|_| true)).unwrap_or((0.0, 0.0));
    Window::MinMax { low, high }
}

/// Pixel Padding Value to Pixel Padding Range Limit (PS3.3 C.7.5.1.1.2), as stored values.
pub(crate) fn padding_range(instance: &Instance, image: &ImagePixel) -> Option<(f64, f64)> {
    let stored = |tag| {
        let &[a, b, ..] = instance.header.raw(tag)? else { return None };
        let big_endian = instance.header.transfer_syntax.big_endian();
        let value = if big_endian { u16::from_be_bytes([a, b]) } else { u16::from_le_bytes([a, b]) };
        Some(if image.signed() { f64::from(value.cast_signed()) } else { f64::from(value) })
    };
    let float = |tag| instance.element(tag)?.to_float64().ok().filter(|value| value.is_finite());
    let (value, limit) = match image.stored {
        Stored::Integer { .. } => (stored(tags::PIXEL_PADDING_VALUE)?, stored(tags::PIXEL_PADDING_RANGE_LIMIT)),
        Stored::Float => (float(tags::FLOAT_PIXEL_PADDING_VALUE)?, float(tags::FLOAT_PIXEL_PADDING_RANGE_LIMIT)),
        Stored::Double => {
            (float(tags::DOUBLE_FLOAT_PIXEL_PADDING_VALUE)?, float(tags::DOUBLE_FLOAT_PIXEL_PADDING_RANGE_LIMIT))
        }
    };
    let limit = limit.unwrap_or(value);
    Some((value.min(limit), value.max(limit)))
}

/// The stored values that occur and count; of types wider than 16 bits only the lowest and the highest, which is enough
/// for a transformation that keeps order. Infinities and what is no number never count.
fn distinct(samples: &Samples, counted: &dyn Fn(f64) -> bool) -> Vec<f64> {
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        let ends = values.filter(|value| value.is_finite() && counted(*value)).fold(None, |ends, value| {
            Some(ends.map_or((value, value), |(low, high): (f64, f64)| (low.min(value), high.max(value))))
        });
        ends.map(|(low, high)| vec![low, high]).unwrap_or_default()
    };
    let mut present = vec![false; 1 << 16];
    match samples {
        Samples::U8(array) => slice(array).iter().for_each(|value| present[usize::from(*value)] = true),
        Samples::I8(array) => slice(array).iter().for_each(|value| present[usize::from(value.cast_unsigned())] = true),
        Samples::U16(array) => slice(array).iter().for_each(|value| present[usize::from(*value)] = true),
        Samples::I16(array) => slice(array).iter().for_each(|value| present[usize::from(value.cast_unsigned())] = true),
        Samples::U32(array) => return ends(&mut slice(array).iter().map(|value| (*value).into())),
        Samples::I32(array) => return ends(&mut slice(array).iter().map(|value| (*value).into())),
        Samples::F32(array) => return ends(&mut slice(array).iter().map(|value| (*value).into())),
        Samples::F64(array) => return ends(&mut slice(array).iter().copied()),
    }
    let occurring = (0..=u16::MAX).zip(present).filter(|(_, present)| *present).map(|(value, _)| match samples {
        Samples::I8(_) => f64::from(value.to_le_bytes()[0].cast_signed()),
        Samples::I16(_) => f64::from(value.cast_signed()),
        _ => f64::from(value),
    });
    occurring.filter(|stored| counted(*stored)).collect()
}

/// The values in C order: every array of this crate is made from a vector, so it is contiguous.
pub(crate) fn slice<T>(array: &ArrayD<T>) -> &[T] {
    array.as_slice().unwrap_or_default()
}

/// Gives `sink` the level of each sample in C order. Values of up to 16 bits go through a table, because computing
/// a window four million times costs ten times as much as looking it up.
pub(crate) fn each_level<T: Copy>(samples: &Samples, level: impl Fn(f64) -> T, mut sink: impl FnMut(T)) {
    match samples {
        Samples::U8(array) => {
            let table: Vec<T> = (0..=u8::MAX).map(|value| level(value.into())).collect();
            slice(array).iter().for_each(|value| sink(table[usize::from(*value)]));
        }
        Samples::I8(array) => {
            let table: Vec<T> = (0..=u8::MAX).map(|value| level(value.cast_signed().into())).collect();
            slice(array).iter().for_each(|value| sink(table[usize::from(value.cast_unsigned())]));
        }
        Samples::U16(array) => {
            let table: Vec<T> = (0..=u16::MAX).map(|value| level(value.into())).collect();
            slice(array).iter().for_each(|value| sink(table[usize::from(*value)]));
        }
        Samples::I16(array) => {
            let table: Vec<T> = (0..=u16::MAX).map(|value| level(value.cast_signed().into())).collect();
            slice(array).iter().for_each(|value| sink(table[usize::from(value.cast_unsigned())]));
        }
        Samples::U32(array) => slice(array).iter().for_each(|value| sink(level((*value).into()))),
        Samples::I32(array) => slice(array).iter().for_each(|value| sink(level((*value).into()))),
        Samples::F32(array) => slice(array).iter().for_each(|value| sink(level((*value).into()))),
        Samples::F64(array) => slice(array).iter().for_each(|value| sink(level(*value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(window: Window, value: f64) -> f64 {
        let grey = Grey { modality: Modality::Identity, voi_lut: None, window, inverted: false, notes: Vec::new() };
        grey.level(value)
    }

    /// The examples of PS3.3 C.11.2.1.2.1, with an output of 0 to 255.
    #[test]
    fn the_standards_own_windows_come_out() {
        let full = Window::Linear { center: 2048.0, width: 4096.0 };
        assert_eq!(level(full, 0.0), 0.0);
        assert_eq!(level(full, 4095.0), 255.0);
        assert!((level(full, 2048.0) - 2048.0 / 4095.0 * 255.0).abs() < 1e-9);
        let threshold = Window::Linear { center: 2048.0, width: 1.0 };
        assert_eq!((level(threshold, 2047.0), level(threshold, 2048.0)), (0.0, 255.0));
        let narrow = Window::Linear { center: 0.0, width: 100.0 };
        assert_eq!((level(narrow, -50.0), level(narrow, 49.0)), (0.0, 255.0));
    }

    #[test]
    fn exact_and_sigmoid_are_half_way_at_their_centre() {
        for window in [Window::LinearExact { center: 40.0, width: 0.5 }, Window::Sigmoid { center: 40.0, width: 0.5 }] {
            assert!((level(window, 40.0) - 127.5).abs() < 1e-9);
            assert!(level(window, 39.0) < 1.0 && level(window, 41.0) > 254.0);
        }
    }

    #[test]
    fn no_input_makes_a_level_that_is_no_number() {
        let windows = [
            Window::Linear { center: 40.0, width: 1.0 },
            Window::Sigmoid { center: 0.0, width: f64::MIN_POSITIVE },
            Window::MinMax { low: f64::NEG_INFINITY, high: f64::INFINITY },
            Window::MinMax { low: 5.0, high: 5.0 },
        ];
        for window in windows {
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, f64::MAX] {
                assert!((0.0..=255.0).contains(&level(window, value)), "{window:?} {value}");
            }
        }
    }
}
