//! Images as models take them: 8-bit RGB.

use std::io::Cursor;

use png::{ColorType, Transformations};
use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use crate::error::{Error, Result};

/// An image: interleaved 8-bit RGB, rows from the top, without padding. Greyscale has three equal channels.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// Columns, in pixels.
    pub width: u32,
    /// Rows, in pixels.
    pub height: u32,
    /// `width * height * 3` bytes.
    pub rgb: Vec<u8>,
}

/// Largest image decoded, in pixels: three times the largest digital mammogram.
pub const MAX_PIXELS: u64 = 100_000_000;

impl Image {
    /// Takes interleaved RGB.
    ///
    /// # Errors
    /// [`Error::Request`] when a side is zero or `rgb` is not `width * height * 3` bytes long.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self> {
        let image = Self { width, height, rgb };
        image.check()?;
        Ok(image)
    }

    /// Decodes a PNG: palettes expanded, 16 bits cut to their high byte, alpha dropped.
    ///
    /// # Errors
    /// [`Error::Request`] for anything that is not a PNG or has more than [`MAX_PIXELS`] pixels.
    pub fn from_png(bytes: &[u8]) -> Result<Self> {
        let fail = |error: png::DecodingError| Error::Request(format!("image: not a readable PNG: {error}"));
        let mut decoder = png::Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(Transformations::normalize_to_color8());
        let header = decoder.read_header_info().map_err(fail)?;
        check_size(header.width.into(), header.height.into())?;
        let mut reader = decoder.read_info().map_err(fail)?;
        let length = reader.output_buffer_size().ok_or_else(|| too_large(u64::MAX, 1))?;
        let mut pixels = vec![0; length];
        let frame = reader.next_frame(&mut pixels).map_err(fail)?;
        pixels.truncate(frame.buffer_size());
        let rgb = match frame.color_type {
            ColorType::Rgb => pixels,
            ColorType::Rgba => pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
            ColorType::Grayscale => pixels.iter().flat_map(|p| [*p; 3]).collect(),
            ColorType::GrayscaleAlpha => pixels.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
            ColorType::Indexed => return Err(Error::Request("image: PNG palette was not expanded".to_owned())),
        };
        Self::new(frame.width, frame.height, rgb)
    }

    /// Decodes a JPEG (baseline or progressive). Its orientation tag is ignored, as Pillow does.
    ///
    /// # Errors
    /// [`Error::Request`] for anything that is not a JPEG or has more than [`MAX_PIXELS`] pixels.
    pub fn from_jpeg(bytes: &[u8]) -> Result<Self> {
        let fail =
            |error: zune_jpeg::errors::DecodeErrors| Error::Request(format!("image: not a readable JPEG: {error}"));
        let options = DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(fail)?;
        let (width, height) = decoder.info().map(|info| (info.width, info.height)).unwrap_or_default();
        check_size(width.into(), height.into())?;
        let rgb = decoder.decode().map_err(fail)?;
        Self::new(width.into(), height.into(), rgb)
    }

    /// Decodes a PNG or a JPEG, told apart by their first bytes.
    ///
    /// # Errors
    /// [`Error::Request`] as [`Image::from_png`] and [`Image::from_jpeg`], and for any other format.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', ..] => Self::from_png(bytes),
            [0xff, 0xd8, ..] => Self::from_jpeg(bytes),
            _ => Err(Error::Request("image: neither PNG nor JPEG; convert it to one of them".to_owned())),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        check_size(self.width.into(), self.height.into())?;
        let expected = self.width as usize * self.height as usize * 3;
        if self.rgb.len() == expected {
            return Ok(());
        }
        Err(Error::Request(format!(
            "image: {} bytes for {} x {} RGB pixels, which take {expected}",
            self.rgb.len(),
            self.width,
            self.height
        )))
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Pixels are a patient's data: they stay out of logs.
        write!(f, "Image({} x {})", self.width, self.height)
    }
}

fn check_size(width: u64, height: u64) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::Request(format!("image: {width} x {height} pixels; both sides must be positive")));
    }
    if width * height > MAX_PIXELS { Err(too_large(width, height)) } else { Ok(()) }
}

fn too_large(width: u64, height: u64) -> Error {
    Error::Request(format!("image: {width} x {height} pixels, more than {MAX_PIXELS}; reduce it first"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png_bytes(width: u32, height: u32, color: ColorType, depth: png::BitDepth, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder.write_header().expect("header").write_image_data(data).expect("data");
        bytes
    }

    #[test]
    fn every_png_kind_becomes_rgb() {
        let check = |color, depth, data: &[u8], expected: &[u8]| {
            let image = Image::decode(&png_bytes(2, 1, color, depth, data)).expect("decodes");
            assert_eq!(image.rgb, expected);
        };
        use png::BitDepth::{Eight, One, Sixteen};
        check(ColorType::Grayscale, Eight, &[1, 2], &[1, 1, 1, 2, 2, 2]);
        check(ColorType::Grayscale, One, &[0b0100_0000], &[0, 0, 0, 255, 255, 255]);
        check(ColorType::Grayscale, Sixteen, &[1, 200, 2, 0], &[1, 1, 1, 2, 2, 2]);
        check(ColorType::GrayscaleAlpha, Eight, &[1, 9, 2, 9], &[1, 1, 1, 2, 2, 2]);
        check(ColorType::Rgb, Eight, &[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 5, 6]);
        check(ColorType::Rgba, Eight, &[1, 2, 3, 9, 4, 5, 6, 9], &[1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn refuses_what_is_not_an_image() {
        let check = |bytes: &[u8], part: &str| {
            let error = Image::decode(bytes).expect_err("no image").to_string();
            assert!(error.contains(part), "{error}");
        };
        check(b"", "neither PNG nor JPEG");
        check(b"\x89PNG\r\n\x1a\nrest", "PNG");
        check(b"\xff\xd8\xff", "JPEG");
        // A header that declares 2^30 x 2^30 pixels must not be believed.
        let mut huge = png_bytes(1, 1, ColorType::Grayscale, png::BitDepth::Eight, &[0]);
        huge[16..24].copy_from_slice(&[0x40, 0, 0, 0, 0x40, 0, 0, 0]);
        assert!(Image::decode(&huge).is_err());
        assert!(Image::new(2, 2, vec![0; 11]).is_err());
        assert!(Image::new(0, 2, vec![]).is_err());
    }
}
