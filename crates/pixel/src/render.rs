use dataset::{Instance, Uid, tags};
use dicom_core::Tag;

use crate::{
    Error, Limits,
    colour::{self, Palette},
    decode::{Decoded, decode},
    grey::{Grey, Padding, Window, each_level},
    groups::numbers,
    image_pixel::Photometric,
    spacing::{PixelSpacing, pixel_spacing},
};

/// What may be asked of a rendering beyond what the file says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RenderOptions {
    /// A window in place of the file's own, as a model may want of CT; not used when its width is not valid.
    pub window: Option<Window>,
}

/// Which pixels a picture shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Source {
    /// The instance.
    pub sop_instance_uid: Uid,
    /// The frame, counted from 0.
    pub frame: u32,
}

/// A display-ready picture of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Red, green and blue of each pixel, row by row; the lowest value is black.
    pub rgb: Vec<u8>,
    /// Whether the three channels are equal everywhere by construction.
    pub grey: bool,
    /// Whether the grey levels were inverted for the display (MONOCHROME1, Presentation LUT Shape INVERSE).
    pub inverted: bool,
    /// Which pixels it shows.
    pub source: Source,
    /// How values became grey levels; nothing for colour.
    pub window: Option<Window>,
    /// The distance between pixels, where the file says so.
    pub pixel_spacing: Option<PixelSpacing>,
    /// Height of a pixel through its width, 1 where the file does not say (PS3.3 C.7.6.3.1.7).
    pub aspect: f64,
    /// What had to be decided against or beyond the header.
    pub notes: Vec<String>,
}

/// Decodes and renders one frame, counted from 0. Errors as [`decode`], and with [`Error::Malformed`] for a lookup table
/// or a number of the grey or palette transformation that is none.
pub fn render(instance: &Instance, frame: u32, options: &RenderOptions, limits: &Limits) -> Result<Rendered, Error> {
    picture(instance, frame, decode(instance, frame, limits)?, options)
}

/// The second half of [`render`], for a frame that is decoded already: `decoded` must be frame `frame` of `instance`.
pub fn picture(instance: &Instance, frame: u32, decoded: Decoded, options: &RenderOptions) -> Result<Rendered, Error> {
    let Decoded { samples, photometric, image } = decoded;
    let mut picture = Rendered {
        width: image.columns,
        height: image.rows,
        rgb: Vec::new(),
        grey: photometric.is_grey(),
        inverted: false,
        source: Source { sop_instance_uid: instance.header.sop_instance_uid.clone(), frame },
        window: None,
        pixel_spacing: pixel_spacing(instance, frame)?,
        aspect: 1.0,
        notes: Vec::new(),
    };
    picture.aspect = aspect(instance, picture.pixel_spacing)?;
    match photometric {
        Photometric::Monochrome1 | Photometric::Monochrome2 => {
            let grey = Grey::of(instance, frame, &image, &samples, options.window, Padding::DoesNotCount)?;
            let inverted = grey.inverted;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a level is 0 to 255
            let shade = |stored: f64| {
                let level = grey.level(stored);
                (if inverted { 255.0 - level } else { level }).round() as u8
            };
            picture.rgb = vec![0; image.pixels() * 3];
            let mut pixels = picture.rgb.as_chunks_mut::<3>().0.iter_mut();
            each_level(&samples, shade, |shade| {
                if let Some(pixel) = pixels.next() {
                    *pixel = [shade; 3];
                }
            });
            picture.inverted = inverted;
            picture.window = Some(grey.window);
            picture.notes = grey.notes;
        }
        Photometric::PaletteColor => picture.rgb = Palette::of(instance, &image)?.apply(&samples)?,
        _ => picture.rgb = colour::rgb8(samples, &image)?,
    }
    Ok(picture)
}

fn aspect(instance: &Instance, spacing: Option<PixelSpacing>) -> Result<f64, Error> {
    if let Some(spacing) = spacing {
        return Ok(spacing.row / spacing.column);
    }
    const RATIO: Tag = tags::PIXEL_ASPECT_RATIO;
    Ok(match numbers(instance.object(), RATIO, "Pixel Aspect Ratio")?.as_deref() {
        Some(&[vertical, horizontal, ..]) if vertical > 0.0 && horizontal > 0.0 => vertical / horizontal,
        _ => 1.0,
    })
}

/// A picture as a PNG file: one channel when it is grey, three otherwise. Compressed for speed.
pub fn png(picture: &Rendered) -> Vec<u8> {
    let mut file = Vec::with_capacity(picture.rgb.len() / 4);
    let mut encoder = png::Encoder::new(&mut file, picture.width, picture.height);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let written = if picture.grey {
        encoder.set_color(png::ColorType::Grayscale);
        let shades: Vec<u8> = picture.rgb.iter().step_by(3).copied().collect();
        encoder.write_header().and_then(|mut writer| writer.write_image_data(&shades))
    } else {
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header().and_then(|mut writer| writer.write_image_data(&picture.rgb))
    };
    // Writing to memory does not fail, and a picture's bytes are those of its size.
    debug_assert!(written.is_ok());
    file
}
