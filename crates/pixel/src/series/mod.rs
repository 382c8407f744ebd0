//! From the images of a study to stacks of frames in order: what [`frames_of`] finds out about each frame, and what
//! [`stacks`] makes of them.

mod frame;
mod geometry;
mod stack;

pub(crate) use frame::value;
pub use frame::{Apart, Frame, frames_of, header_suffices};
pub use geometry::Plane;
pub(crate) use geometry::{cross, dot};
pub use stack::{Gap, Kind, Order, SliceSpacing, Stack, StackFrame, stacks};
