//! From stored values to grey levels: modality transformation (PS3.3 C.11.1), then VOI transformation (C.11.2).

use dataset::{Instance, tags};
use dicom_core::Tag;
use dicom_object::InMemDicomObject;
use ndarray::ArrayD;

use crate::{
    Error, Samples,
    groups::{functional_group, number, text},
    image_pixel::{ImagePixel, Photometric},
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
    /// The first item of VOI LUT Sequence (0028,3010).
    #[serde(rename = "VOI_LUT")]
    VoiLut {
        /// Bits of an entry; the highest one that they can express is white.
        bits: u32,
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
            Some(window) => Some((window, None)),
            None => voi(instance, frame, image, &modality, &mut notes)?,
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
            Window::VoiLut { bits } => {
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
    if let Some(lut) = first_lut(instance.object(), tags::MODALITY_LUT_SEQUENCE, image.signed())? {
        return Ok(Modality::Lut(lut));
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

fn first_lut(item: &InMemDicomObject, sequence: Tag, signed: bool) -> Result<Option<Lut>, Error> {
    let Some(item) = item.get(sequence).and_then(|element| element.items()?.first()) else { return Ok(None) };
    let missing = || Error::malformed("an item of a LUT sequence lacks its LUT Descriptor or LUT Data");
    let descriptor = Descriptor::of(item.get(tags::LUT_DESCRIPTOR).ok_or_else(missing)?, signed)?;
    let entries = lut_entries(item.get(tags::LUT_DATA).ok_or_else(missing)?, &descriptor)?;
    Ok(Some(Lut { descriptor, entries }))
}

/// The first VOI LUT, else the first window, of the frame's functional group before the top level.
fn voi(
    instance: &Instance,
    frame: u32,
    image: &ImagePixel,
    modality: &Modality,
    notes: &mut Vec<String>,
) -> Result<Option<(Window, Option<Lut>)>, Error> {
    let signed = match modality {
        Modality::Identity => image.signed(),
        Modality::Rescale { slope, intercept } => image.signed() || *slope < 0.0 || *intercept < 0.0,
        Modality::Lut(_) => false,
    };
    let group = functional_group(instance, frame, tags::FRAME_VOILUT_SEQUENCE);
    let top_level: &InMemDicomObject = instance.object();
    for item in group.into_iter().chain([top_level]) {
        if let Some(lut) = first_lut(item, tags::VOILUT_SEQUENCE, signed)? {
            return Ok(Some((Window::VoiLut { bits: lut.descriptor.bits }, Some(lut))));
        }
        if let Some(window) = first_window(item, notes)? {
            return Ok(Some((window, None)));
        }
    }
    Ok(None)
}

fn first_window(item: &InMemDicomObject, notes: &mut Vec<String>) -> Result<Option<Window>, Error> {
    let center = number(item, tags::WINDOW_CENTER, "Window Center")?;
    let width = number(item, tags::WINDOW_WIDTH, "Window Width")?;
    let Some((center, width)) = center.zip(width) else { return Ok(None) };
    let window = match text(item, tags::VOILUT_FUNCTION).as_deref() {
        None | Some("LINEAR") => Window::Linear { center, width },
        Some("LINEAR_EXACT") => Window::LinearExact { center, width },
        Some("SIGMOID") => Window::Sigmoid { center, width },
        Some(_) => {
            notes.push("VOI LUT Function (0028,1056) is unknown: LINEAR is taken".to_owned());
            Window::Linear { center, width }
        }
    };
    if window.is_valid() {
        return Ok(Some(window));
    }
    notes.push("Window Width (0028,1051) is less than PS3.3 C.11.2.1.2 allows: the window is not used".to_owned());
    Ok(None)
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
        let values = distinct(samples).into_iter().filter(|stored| counted(*stored));
        values.map(|stored| modality.apply(stored)).fold(None, |range, value| {
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
    let value = stored(tags::PIXEL_PADDING_VALUE)?;
    let limit = stored(tags::PIXEL_PADDING_RANGE_LIMIT).unwrap_or(value);
    Some((value.min(limit), value.max(limit)))
}

/// The stored values that occur; of types wider than 16 bits only the lowest and the highest, which is enough for a
/// transformation that keeps order.
fn distinct(samples: &Samples) -> Vec<f64> {
    fn ends<T: Copy + Into<f64>>(array: &ArrayD<T>) -> Vec<f64> {
        let numbers = array.iter().map(|value| (*value).into()).filter(|value| !value.is_nan());
        let ends = numbers.fold(None, |ends: Option<(f64, f64)>, value| {
            Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        });
        ends.map(|(low, high)| vec![low, high]).unwrap_or_default()
    }
    let mut present = vec![false; 1 << 16];
    match samples {
        Samples::U8(array) => array.iter().for_each(|value| present[usize::from(*value)] = true),
        Samples::I8(array) => array.iter().for_each(|value| present[usize::from(value.cast_unsigned())] = true),
        Samples::U16(array) => slice(array).iter().for_each(|value| present[usize::from(*value)] = true),
        Samples::I16(array) => slice(array).iter().for_each(|value| present[usize::from(value.cast_unsigned())] = true),
        Samples::U32(array) => return ends(array),
        Samples::I32(array) => return ends(array),
        Samples::F32(array) => return ends(array),
        Samples::F64(array) => return ends(array),
    }
    let occurring = (0..=u16::MAX).zip(present).filter(|(_, present)| *present).map(|(value, _)| value);
    match samples {
        Samples::I8(_) => occurring.map(|value| f64::from(value.to_le_bytes()[0].cast_signed())).collect(),
        Samples::I16(_) => occurring.map(|value| f64::from(value.cast_signed())).collect(),
        _ => occurring.map(f64::from).collect(),
    }
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
