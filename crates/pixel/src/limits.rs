use std::time::Duration;

use dataset::Instance;

use crate::{
    Decoded, Error,
    codec::Encoding,
    decode,
    frames::PixelData,
    image_pixel::{ImagePixel, Photometric},
};

/// Caps on what a header or a codestream may make us allocate and how long it may keep a decoder busy, with their reasons.
/// They are not configured: what is beyond them is no image of a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Rows times Columns of one frame. The largest radiographs and mammograms have about 35 million pixels; a decoded
    /// frame of this size takes 128 MiB at 16 bits and 192 MiB as display-ready RGB.
    pub pixels_per_frame: u64,
    /// Frames of one instance. Enhanced CT and MR reach 10 000.
    pub frames: u32,
    /// Bytes that a decoder may hold while it works on one frame, by estimate from what the codestream says of itself.
    /// JPEG 2000 takes 28 for a sample that is in one tile, so a mammogram of 35 million pixels takes 940 MiB. A frame of
    /// few compressed bytes is allowed less: 192 MiB and 1 KiB for each of its bytes.
    pub memory_per_frame: u64,
    /// Time for one frame on one core, by estimate (see [`estimated_time`]).
    pub time_per_frame: Duration,
    /// Time for all frames of a study that are decoded, on one core, by estimate (see [`Budget`]).
    pub time_per_study: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pixels_per_frame: 64 << 20,
            frames: 1 << 16,
            memory_per_frame: 1 << 30,
            time_per_frame: Duration::from_secs(60),
            time_per_study: Duration::from_secs(30 * 60),
        }
    }
}

impl Limits {
    /// Bytes that a decoder of `coded` compressed bytes may hold. No image is compressed to a thousandth unless it is
    /// empty, and an empty one of 10 megapixels is still within the constant part.
    pub(crate) fn memory_for(&self, coded: usize) -> u64 {
        const ALWAYS: u64 = 192 << 20;
        const PER_CODED_BYTE: u64 = 1 << 10;
        (coded as u64).saturating_mul(PER_CODED_BYTE).saturating_add(ALWAYS).min(self.memory_per_frame)
    }

    /// Whether a frame may be decoded and shown, by what it takes beside its codec's own memory. Errors with
    /// [`Error::TooLarge`].
    pub(crate) fn check_frame(&self, image: &ImagePixel, encoding: Encoding, coded: usize) -> Result<(), Error> {
        let (found, limit) = (frame_memory(image), self.memory_for(coded));
        if found > limit {
            return Err(Error::TooLarge { what: "bytes for a frame of so few compressed ones", found, limit });
        }
        self.check_time(frame_time(image, encoding))?;
        can_allocate(found)
    }

    fn check_time(&self, time: Duration) -> Result<(), Error> {
        if time <= self.time_per_frame {
            return Ok(());
        }
        Err(Error::TooLarge {
            what: "seconds for a frame, by estimate,",
            found: time.as_secs(),
            limit: self.time_per_frame.as_secs(),
        })
    }
}

/// Bytes of a frame's cells, and of a copy of them or of its picture, whichever is more. No product overflows: the
/// header's limits are far from that.
fn frame_memory(image: &ImagePixel) -> u64 {
    let cells = image.frame_samples() as u64 * u64::from(image.bits_allocated.div_ceil(8).next_power_of_two());
    let picture = image.pixels() as u64 * 3;
    cells + cells.max(picture)
}

/// Asks for so much memory and gives it back: a decoder that asks for it in vain ends the process, here it is an error.
pub(crate) fn can_allocate(bytes: u64) -> Result<(), Error> {
    let mut asked = Vec::<u8>::new();
    let had = usize::try_from(bytes).is_ok_and(|bytes| asked.try_reserve_exact(bytes).is_ok());
    // Otherwise the compiler may leave out a request whose answer nobody uses.
    std::hint::black_box(&mut asked);
    if had { Ok(()) } else { Err(Error::OutOfMemory { bytes }) }
}

/// How long a frame keeps one core busy at most, roughly: by its samples, and what a decoder has been seen to take for
/// one of them in the worst files of its fuzzing.
fn frame_time(image: &ImagePixel, encoding: Encoding) -> Duration {
    let nanoseconds = match encoding {
        Encoding::Native | Encoding::EncapsulatedNative | Encoding::Rle => 5,
        Encoding::DeflatedFrame => 10,
        Encoding::Jpeg => 50,
        Encoding::JpegLs => 60,
        Encoding::Jpeg2000 => 500,
        Encoding::JpegXl => 1000,
    };
    let ybr = if image.photometric == Photometric::YbrFull { 10 } else { 0 };
    Duration::from_nanos((image.frame_samples() as u64).saturating_mul(nanoseconds + ybr))
}

/// How long one frame of an instance keeps one core busy at most, by estimate from its header: known before anything is
/// decoded, and the same in every run. Errors as [`ImagePixel::of`], and with [`Error::UnsupportedTransferSyntax`].
pub fn estimated_time(instance: &Instance, limits: &Limits) -> Result<Duration, Error> {
    let encoding = Encoding::of(instance.header.transfer_syntax)?;
    let image = ImagePixel::of(instance, limits)?;
    // Each frame looks for its fragments anew, and where all frames are in one fragment, through its bytes.
    let looked_at = match PixelData::of(instance)? {
        PixelData::Encapsulated(data) if image.frames > 1 => match data.fragments() {
            [one] => one.len(),
            many => many.len() * 8,
        },
        _ => 0,
    };
    Ok(frame_time(&image, encoding) + Duration::from_nanos(looked_at as u64))
}

/// What is left of the time that the frames of a study may take. There is no clock in it: the time is that of
/// [`estimated_time`], so that the same study ends the same way on every machine.
#[derive(Debug, Clone)]
pub struct Budget {
    limits: Limits,
    left: Duration,
}

impl Budget {
    /// The whole time of a study.
    pub fn new(limits: &Limits) -> Self {
        Self { left: limits.time_per_study, limits: limits.clone() }
    }

    /// As [`decode`](crate::decode()), with the time of the frame taken off. Errors with [`Error::TooLarge`], too, when the
    /// time does not suffice.
    pub fn decode(&mut self, instance: &Instance, frame: u32) -> Result<Decoded, Error> {
        let time = estimated_time(instance, &self.limits)?;
        self.left = self.left.checked_sub(time).ok_or(Error::TooLarge {
            what: "seconds for the frames of a study, by estimate, or more",
            found: self.limits.time_per_study.as_secs() + 1,
            limit: self.limits.time_per_study.as_secs(),
        })?;
        decode(instance, frame, &self.limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(image: &ImagePixel, encoding: Encoding, coded: usize) -> bool {
        Limits::default().check_frame(image, encoding, coded).is_ok()
    }

    #[test]
    fn a_radiograph_is_allowed_and_a_bomb_is_not() {
        let grey = |side: u32, bits| ImagePixel::grey(side, side, bits);
        // An empty radiograph, a mammogram compressed to a fiftieth, and the largest frame that there may be.
        assert!(holds(&grey(4096, 16), Encoding::JpegLs, 500));
        assert!(holds(&grey(6000, 16), Encoding::Jpeg2000, 1 << 20));
        assert!(holds(&grey(8192, 16), Encoding::Rle, 1 << 20));
        assert!(!holds(&grey(8192, 16), Encoding::Rle, 500));
        let colour = ImagePixel { samples: 3, photometric: Photometric::Rgb, ..grey(8192, 32) };
        assert!(!holds(&colour, Encoding::Native, usize::MAX));
        // Beyond its time.
        assert!(!holds(&grey(8192, 16), Encoding::JpegXl, 64 << 20));
    }
}
