//! An image while it is worked on: one plane of 8-bit levels for each colour, and the geometry of image processors.

use std::{panic::resume_unwind, thread};

use crate::{
    error::{Error, Result},
    image::{Image, MAX_PIXELS},
    resample::{Filter, resize_plane},
    vectorized::vectorized,
};

/// Planes of 8-bit levels, rows from the top. A grey image has one plane that stands for all three: radiographs are
/// grey, and a third of the work is enough for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planes {
    pub(super) width: u32,
    pub(super) height: u32,
    levels: Vec<Vec<u8>>,
}

/// From so many pixels on, colours are resized by a thread each: below, starting threads costs more than it saves.
const AT_ONCE: u64 = 1 << 17;

impl Planes {
    pub(super) fn of(image: &Image) -> Result<Self> {
        image.check()?;
        let levels = vectorized(
            #[inline(always)]
            || split(&image.rgb),
        );
        Ok(Self { width: image.width, height: image.height, levels })
    }

    /// One plane of Pillow's luminance (`convert("L")`).
    #[expect(clippy::cast_possible_truncation, reason = "the weights sum to 65536")]
    pub(super) fn luminance(&self) -> Self {
        let [red, green, blue] = &self.levels[..] else { return self.clone() };
        let weighted = |((red, green), blue): ((&u8, &u8), &u8)| {
            ((u32::from(*red) * 19595 + u32::from(*green) * 38470 + u32::from(*blue) * 7471 + 0x8000) >> 16) as u8
        };
        let levels = vec![red.iter().zip(green).zip(blue).map(weighted).collect()];
        Self { width: self.width, height: self.height, levels }
    }

    /// The plane of a colour: 0 red, 1 green, 2 blue.
    pub(super) fn plane(&self, channel: usize) -> &[u8] {
        &self.levels[channel % self.levels.len()]
    }

    /// Whether one plane stands for all colours.
    pub(super) fn is_grey(&self) -> bool {
        self.levels.len() == 1
    }

    /// Pillow's `resize`.
    ///
    /// # Errors
    /// [`Error::Request`] when a side would be 0 or the result larger than any image may be.
    pub(super) fn resize(&self, width: u64, height: u64, filter: Filter) -> Result<Self> {
        let side = |side: u64| u32::try_from(side).ok().filter(|side| (1..=65535).contains(side));
        let (Some(new_width), Some(new_height)) = (side(width), side(height)) else {
            return Err(self.wrong_size(width, height));
        };
        if width * height > MAX_PIXELS {
            return Err(self.wrong_size(width, height));
        }
        let from = (self.width, self.height);
        let plane = |levels: &Vec<u8>| resize_plane(levels, from, (new_width, new_height), filter);
        let pixels = (u64::from(self.width) * u64::from(self.height)).max(width * height);
        let levels = match &self.levels[..] {
            [red, green, blue] if pixels >= AT_ONCE => thread::scope(|scope| {
                let others = [green, blue].map(|levels| scope.spawn(move || plane(levels)));
                let mut resized = vec![plane(red)];
                resized.extend(others.map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic))));
                resized
            }),
            levels => levels.iter().map(plane).collect(),
        };
        Ok(Self { width: new_width, height: new_height, levels })
    }

    fn wrong_size(&self, width: u64, height: u64) -> Error {
        Error::Request(format!(
            "image: {} x {} pixels would be resized to {width} x {height}; crop it to a usual shape first",
            self.width, self.height
        ))
    }

    /// The part that begins at (`left`, `top`), black where it lies outside.
    pub(super) fn crop(&self, left: i64, top: i64, width: u32, height: u32) -> Self {
        self.cut(left, top, width, height, &[0])
    }

    /// With `left` and `top` pixels of a colour before it, and as many after it as `width` and `height` ask for.
    pub(super) fn pad(&self, left: u32, top: u32, width: u32, height: u32, colour: [u8; 3]) -> Self {
        let (left, top) = (-i64::from(left), -i64::from(top));
        if self.is_grey() && colour != [colour[0]; 3] {
            let coloured = Self { levels: vec![self.levels[0].clone(); 3], ..*self };
            return coloured.cut(left, top, width, height, &colour);
        }
        self.cut(left, top, width, height, &colour)
    }

    fn cut(&self, left: i64, top: i64, width: u32, height: u32, outside: &[u8]) -> Self {
        let inside = |from: i64, length: u32, limit: u32| {
            let begin = from.clamp(0, limit.into());
            let end = (from + i64::from(length)).clamp(begin, limit.into());
            (begin, end)
        };
        let ((x0, x1), (y0, y1)) = (inside(left, width, self.width), inside(top, height, self.height));
        let index = |value: i64| usize::try_from(value).unwrap_or_default();
        let cut = |(channel, source): (usize, &Vec<u8>)| {
            let mut out = vec![outside[channel % outside.len()]; width as usize * height as usize];
            for y in y0..y1 {
                let from = index(y) * self.width as usize;
                let to = index(y - top) * width as usize + index(x0 - left);
                let row = &source[from + index(x0)..from + index(x1)];
                out[to..to + row.len()].copy_from_slice(row);
            }
            out
        };
        Self { width, height, levels: self.levels.iter().enumerate().map(cut).collect() }
    }

    /// Cut out of the middle, black where it is larger than the image (`center_crop` of Transformers); and what was cut
    /// off at the left and the top, less than 0 where it adds.
    pub(super) fn center_crop(&self, height: u32, width: u32) -> (Self, [i64; 2]) {
        let margin = |of: u32, to: u32| (i64::from(of) - i64::from(to)).div_euclid(2);
        let (left, top) = (margin(self.width, width), margin(self.height, height));
        (self.crop(left, top, width, height), [left, top])
    }

    /// Rows become columns.
    pub(super) fn transposed(&self) -> Self {
        let (width, height) = (self.width as usize, self.height as usize);
        let transpose = |source: &Vec<u8>| {
            let mut out = Vec::with_capacity(source.len());
            for x in 0..width {
                out.extend((0..height).map(|y| source[y * width + x]));
            }
            out
        };
        Self { width: self.height, height: self.width, levels: self.levels.iter().map(transpose).collect() }
    }

    /// Turned by 90 degrees clockwise.
    pub(super) fn turned(&self) -> Self {
        let mut out = self.transposed();
        for plane in &mut out.levels {
            plane.chunks_exact_mut(out.width as usize).for_each(<[u8]>::reverse);
        }
        out
    }

    /// In the middle of a square as long as the longer side (`pad_to_square`); and what was added at the left and the
    /// top.
    pub(super) fn pad_to_square(&self, colour: [u8; 3]) -> (Self, [u32; 2]) {
        let side = self.width.max(self.height);
        let (left, top) = ((side - self.width) / 2, (side - self.height) / 2);
        if self.width == self.height {
            return (self.clone(), [0, 0]);
        }
        (self.pad(left, top, side, side, colour), [left, top])
    }
}

/// Pixels looked at and separated at a time: few enough to stay in the fastest cache, too many to be unrolled.
const PIXELS: usize = 1024;

/// The planes of interleaved RGB; one where all pixels are grey.
#[inline(always)]
fn split(rgb: &[u8]) -> Vec<Vec<u8>> {
    let pixels = rgb.as_chunks::<3>().0;
    let mut red = vec![0; pixels.len()];
    let mut grey = 0;
    for (pixels, red) in pixels.chunks(PIXELS).zip(red.chunks_mut(PIXELS)) {
        let mut differ = 0;
        for (pixel, red) in pixels.iter().zip(red) {
            *red = pixel[0];
            differ |= (pixel[0] ^ pixel[1]) | (pixel[1] ^ pixel[2]);
        }
        if differ != 0 {
            break;
        }
        grey += pixels.len();
    }
    if grey == pixels.len() {
        return vec![red];
    }
    let mut green = Vec::with_capacity(pixels.len());
    green.extend_from_slice(&red[..grey]);
    let mut blue = green.clone();
    blue.reserve_exact(pixels.len() - grey);
    green.resize(pixels.len(), 0);
    blue.resize(pixels.len(), 0);
    let places = red[grey..].iter_mut().zip(&mut green[grey..]).zip(&mut blue[grey..]);
    for (pixel, ((red, green), blue)) in pixels[grey..].iter().zip(places) {
        (*red, *green, *blue) = (pixel[0], pixel[1], pixel[2]);
    }
    vec![red, green, blue]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `width` x `height` image whose pixels count up from 0; blue is red plus one when coloured.
    fn counting(width: u32, height: u32, coloured: bool) -> Planes {
        let levels = (0..width * height).map(|level| level.to_le_bytes()[0]);
        let rgb = levels.flat_map(|level| [level, level, level + u8::from(coloured)]).collect();
        Planes::of(&Image { width, height, rgb }).expect("an image")
    }

    #[test]
    fn grey_images_have_one_plane() {
        assert!(counting(4, 2, false).is_grey());
        let coloured = counting(4, 2, true);
        assert!(!coloured.is_grey());
        assert_eq!((coloured.plane(0)[3], coloured.plane(2)[3]), (3, 4));
    }

    #[test]
    fn geometry() {
        let check = |found: Planes, width: u32, height: u32, expected: &[u8]| {
            assert_eq!((found.width, found.height, found.plane(0)), (width, height, expected));
        };
        let image = counting(4, 2, false);
        check(image.center_crop(1, 2).0, 2, 1, &[1, 2]);
        check(image.center_crop(2, 4).0, 4, 2, &[0, 1, 2, 3, 4, 5, 6, 7]);
        check(image.center_crop(4, 2).0, 2, 4, &[0, 0, 1, 2, 5, 6, 0, 0]);
        check(image.center_crop(1, 7).0, 7, 1, &[0, 0, 0, 1, 2, 3, 0]);
        check(image.crop(3, 1, 2, 2), 2, 2, &[7, 0, 0, 0]);
        check(image.crop(9, 9, 1, 1), 1, 1, &[0]);
        check(image.transposed(), 2, 4, &[0, 4, 1, 5, 2, 6, 3, 7]);
        check(image.turned(), 2, 4, &[4, 0, 5, 1, 6, 2, 7, 3]);
        check(image.pad_to_square([9; 3]).0, 4, 4, &[9, 9, 9, 9, 0, 1, 2, 3, 4, 5, 6, 7, 9, 9, 9, 9]);
        let (padded, _) = image.transposed().pad_to_square([1, 2, 3]);
        assert_eq!((padded.plane(0)[0], padded.plane(1)[0], padded.plane(2)[0]), (1, 2, 3));
        check(counting(4, 2, true).luminance(), 4, 2, &[0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn impossible_sizes_are_refused_not_allocated() {
        let check = |width: u64, height: u64| {
            let error = counting(10, 1, false).resize(width, height, Filter::Bilinear).expect_err("refused");
            assert!(error.to_string().contains("10 x 1 pixels would be resized"), "{error}");
        };
        check(0, 5);
        check(65536, 1);
        check(60000, 60000);
    }
}
