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
mod compose;
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
mod policy;
mod render;
mod resample;
mod rle;
mod series;
mod spacing;
mod turn;
mod values;
mod views;

pub use choose::{Reason, Selection, choose};
pub use compose::ModelImage;
pub use decode::{Decoded, Samples, can_decode, decode};
pub use describe::{ArrayDescription, Description, Voi8, describe};
pub use error::Error;
pub use grey::Window;
pub use image_pixel::{ImagePixel, Photometric, Stored};
pub use limits::Limits;
pub use mapping::{Area, Layout, Mapping, Point, SourcePoint, Tile};
pub use policy::{
    ImagePolicy, Limit, Montage, PRESETS, Plan, Planned, PolicyError, PolicyKeys, Slices, WindowChoice, WindowFor,
    WindowsAs, reading_order,
};
pub use render::{RenderOptions, Rendered, Source, picture, png, render};
pub use series::{
    Apart, Frame, Gap, Kind, Order, Plane, SliceSpacing, Stack, StackFrame, frames_of, header_suffices, stacks,
};
pub use spacing::{PixelSpacing, SpacingSource, Trust, UltrasoundRegion, ultrasound_regions};
pub use turn::Turn;
pub use values::StackValues;
pub use views::{StandsBy, Upright, View, upright};
