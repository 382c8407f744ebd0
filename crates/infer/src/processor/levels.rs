//! From levels to the numbers a graph takes: rescale and normalise, a table for each colour.

use super::planes::Planes;
use crate::error::{Error, Result};

/// What each of the 256 levels of each colour becomes.
#[derive(Debug, Clone)]
pub(super) struct Levels {
    tables: Vec<[f32; 256]>,
}

impl Levels {
    /// Rescales by a factor, then takes a mean away and divides by a deviation; each where there is one. For graphs of
    /// `channels` colours: 3, or 1 for greyscale.
    pub(super) fn new(rescale: Option<f64>, normalize: Option<&(Vec<f64>, Vec<f64>)>, channels: usize) -> Result<Self> {
        // The reference computes in double precision up to here, and in single from here on.
        #[expect(clippy::cast_possible_truncation, reason = "as the reference does")]
        let rescaled = |level: u8| (f64::from(level) * rescale.unwrap_or(1.0)) as f32;
        Self::with(rescaled, normalize, channels)
    }

    /// As [`Levels::new`], with another way to rescale.
    pub(super) fn with(
        rescaled: impl Fn(u8) -> f32,
        normalize: Option<&(Vec<f64>, Vec<f64>)>,
        channels: usize,
    ) -> Result<Self> {
        if channels != 3 && channels != 1 {
            return Err(Error::unsupported(
                format!("a vision graph that takes {channels} channels"),
                "3 (RGB) or 1 (greyscale)",
                "choose another model",
            ));
        }
        let table = |channel: usize| {
            let pick = |values: &[f64], key: &str| match values {
                [value] => Ok(*value),
                values if values.len() == channels => Ok(values[channel]),
                values => Err(Error::Request(format!("{key} has {} values for {channels} channels", values.len()))),
            };
            let mut table = [0.0; 256];
            for (level, value) in (0..=u8::MAX).zip(&mut table) {
                *value = rescaled(level);
            }
            if let Some((mean, std)) = normalize {
                #[expect(clippy::cast_possible_truncation, reason = "the reference normalises in single precision")]
                let (mean, std) = (pick(mean, "image_mean")? as f32, pick(std, "image_std")? as f32);
                table.iter_mut().for_each(|value| *value = (*value - mean) / std);
            }
            Ok(table)
        };
        Ok(Self { tables: (0..channels).map(table).collect::<Result<_>>()? })
    }

    pub(super) fn channels(&self) -> usize {
        self.tables.len()
    }

    /// What the levels of a colour become.
    pub(super) fn table(&self, channel: usize) -> &[f32; 256] {
        &self.tables[channel]
    }

    /// Appends the values of an image, colour by colour (CHW). One of a single colour takes the luminance.
    pub(super) fn write(&self, planes: &Planes, values: &mut Vec<f32>) {
        let luminance;
        let planes = if self.tables.len() == 1 {
            luminance = planes.luminance();
            &luminance
        } else {
            planes
        };
        for (channel, table) in self.tables.iter().enumerate() {
            let begin = values.len();
            let same = channel > 0 && planes.is_grey() && self.tables[channel - 1] == *table;
            if same {
                values.extend_from_within(begin - planes.plane(channel).len()..);
            } else {
                values.extend(planes.plane(channel).iter().map(|level| table[usize::from(*level)]));
            }
        }
    }
}
