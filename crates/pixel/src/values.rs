//! The values of a whole stack, so that its slices can be shown through one window.

use dataset::Instance;

use crate::{
    Decoded, Error, Window,
    decode::with_array,
    grey::{Grey, Padding, padding_range, slice},
    image_pixel::Photometric,
};

/// Values of a stack, in modality units, collected frame by frame: all of a small stack, evenly spaced ones of a large
/// one. The same frames give the same window, whatever their order.
#[derive(Debug, Default)]
pub struct StackValues {
    frames: usize,
    values: Vec<f32>,
}

/// Values that are kept of a stack; more would not move a percentile by a grey level.
const KEPT: usize = 2 << 20;

impl StackValues {
    /// Of a stack of so many frames.
    pub fn of_frames(frames: usize) -> Self {
        Self { frames: frames.max(1), values: Vec::new() }
    }

    /// Adds a frame, counted from 0, which is decoded already. Padding and values that are no numbers do not count;
    /// colour has none. Errors as [`render`](crate::render).
    #[expect(clippy::useless_conversion)] // useless for one of eight types
    pub fn add(&mut self, instance: &Instance, frame: u32, decoded: &Decoded) -> Result<(), Error> {
        if !matches!(decoded.photometric, Photometric::Monochrome1 | Photometric::Monochrome2) {
            return Ok(());
        }
        // The window does not matter here: the values before it are wanted.
        let any = Some(Window::MinMax { low: 0.0, high: 1.0 });
        let grey = Grey::of(instance, frame, &decoded.image, &decoded.samples, any, Padding::DoesNotCount)?;
        let padding = padding_range(instance, &decoded.image);
        let counts = |stored: f64| padding.is_none_or(|(low, high)| stored < low || stored > high);
        let step = (decoded.image.pixels() * self.frames).div_ceil(KEPT).max(1);
        with_array!(&decoded.samples, array => {
            let stored = slice(array).iter().step_by(step).map(|value| f64::from(*value));
            let values = stored.filter(|stored| counts(*stored)).map(|stored| grey.value(stored));
            #[expect(clippy::cast_possible_truncation)] // seven digits are more than a grey level needs
            self.values.extend(values.filter(|value| value.is_finite()).map(|value| value as f32));
        });
        Ok(())
    }

    /// The window from one percentile to another, each 0 to 100; nothing without values.
    pub fn window(&mut self, low: f64, high: f64) -> Option<Window> {
        self.values.sort_unstable_by(f32::total_cmp);
        let last = self.values.len().checked_sub(1)?;
        let at = |percent: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within the values
            let index = (last as f64 * percent.clamp(0.0, 100.0) / 100.0).round() as usize;
            f64::from(self.values[index.min(last)])
        };
        Some(Window::MinMax { low: at(low), high: at(high) })
    }
}
