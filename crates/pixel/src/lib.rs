//! From DICOM pixels to the frames that a model should see.
//!
//! [`decode`] yields the stored values of one frame, [`render`] a display-ready picture of it, [`choose`] says which
//! instances of a study are images to read, and [`Mapping`] leads from a point that a model saw back to source pixels.
//! Nothing here reads files or knows a model.

mod adapter;
mod choose;
mod codec;
mod codestream;
mod colour;
mod decode;
mod describe;
mod error;
mod frames;
mod grey;
mod groups;
mod image_pixel;
mod jpeg;
mod limits;
mod lut;
mod mapping;
mod render;
mod rle;

pub use choose::{Reason, Selection, choose};
pub use decode::{Decoded, Samples, can_decode, decode};
pub use describe::{ArrayDescription, Description, Voi8, describe};
pub use error::Error;
pub use grey::Window;
pub use image_pixel::{ImagePixel, Photometric, Stored};
pub use limits::Limits;
pub use mapping::{Mapping, Point};
pub use render::{PixelSpacing, RenderOptions, Rendered, Source, SpacingSource, picture, png, render};
