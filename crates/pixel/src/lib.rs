//! From DICOM pixels to the frames that a model should see.
//!
//! Of one frame: [`decode`] yields its stored values and [`render`] a display-ready picture.
//!
//! Of a study: [`choose`] says which instances are images to read, [`stacks`] puts their frames in order by geometry, an
//! [`ImagePolicy`] says which of them a model gets and through which windows, and a [`Composer`] makes them, one frame at
//! a time. A [`Layout`] leads from a point of what a model saw back to source pixels, through any chain of [`Mapping`]s.
//! [`contact_sheet`] shows a person what was chosen.
//!
//! Nothing here reads files or knows a model.
//!
//! Where a file has neither a VOI LUT nor a window that is possible, the lowest value of the frame is black and the highest
//! white, Pixel Padding Value not counted ([`Window::MinMax`]). [`Limits`] says what a frame may cost; that is known before
//! a decoder runs, and a decoder's panic is an error of the frame.

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
mod input;
mod jpeg;
mod jpeg_2000;
mod jpeg_ls;
mod limits;
mod lut;
mod mapping;
mod palette;
mod policy;
mod render;
mod resample;
mod rle;
mod same;
mod series;
mod sheet;
mod spacing;
mod study;
mod turn;
mod values;
mod views;

pub use choose::{Reason, Selection, choose};
pub use compose::ModelImage;
pub use decode::{Decoded, Samples, can_decode, decode};
pub use describe::{ArrayDescription, Description, Voi8, describe};
pub use error::Error;
pub use grey::{Offered, Window, offered_windows, window_explained, window_of_width};
pub use image_pixel::{ImagePixel, Photometric, Stored, check_size};
pub use input::{Composer, InputImage, ModelInput};
pub use limits::{Budget, Limits, estimated_time};
pub use mapping::{Area, Layout, Mapping, Point, SourcePoint, Tile};
pub use policy::{
    ImagePolicy, Limit, Montage, PRESETS, Plan, Planned, PolicyError, PolicyKeys, Slices, WindowChoice, WindowFor,
    WindowsAs, reading_order,
};
pub use render::{RenderOptions, Rendered, Source, picture, png, render, rgb_png};
pub use same::same_pixels;
pub use series::{
    Apart, Frame, Gap, Kind, Order, Plane, SliceSpacing, Stack, StackFrame, frames_of, header_suffices, stacks,
};
pub use sheet::{ContactSheet, Thumbnail, contact_sheet};
pub use spacing::{PixelSpacing, SpacingSource, Trust, UltrasoundRegion, ultrasound_regions};
pub use study::{FRAMES_OF_PERCENTILES, MOST_FRAMES, MOST_PIXELS, Open, ShownFrame, StackSummary, Unread};
pub use turn::Turn;
pub use values::StackValues;
pub use views::{StandsBy, Upright, View, upright, view_of_code};
