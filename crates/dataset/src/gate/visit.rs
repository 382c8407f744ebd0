//! What is done with the elements that a walk meets.

use dicom_core::{Tag, VR};

use super::GateError;

/// An element's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element {
    pub(crate) tag: Tag,
    /// From the stream, or from the dictionary where the stream names none.
    pub(crate) vr: VR,
    /// As declared: of an undefined length, `u32::MAX`.
    pub(crate) length: u32,
    /// The VR is the dictionary's, which for some elements depends on others.
    pub(crate) implied: bool,
    /// The byte order of the value.
    pub(crate) big_endian: bool,
}

/// Is told of the elements that a walk meets, in their order. Whatever begins ends, unless the walk fails.
pub(crate) trait Visit {
    /// Whether values are handed on, or passed over.
    const WANTS_VALUES: bool;

    /// A sequence begins, or pixel data in fragments.
    fn begin(&mut self, element: &Element, fragments: bool);

    /// An item of the sequence begins.
    fn begin_item(&mut self);

    /// What began last ends.
    fn end(&mut self);

    /// A value of defined length. An error ends the walk.
    fn value(&mut self, element: &Element, bytes: Vec<u8>) -> Result<(), GateError>;

    /// A fragment of what began last.
    fn fragment(&mut self, bytes: Vec<u8>, big_endian: bool);
}

/// Wants nothing: the walk alone says whether a data set may pass.
pub(crate) struct Nobody;

impl Visit for Nobody {
    const WANTS_VALUES: bool = false;

    fn begin(&mut self, _: &Element, _: bool) {}

    fn begin_item(&mut self) {}

    fn end(&mut self) {}

    fn value(&mut self, _: &Element, _: Vec<u8>) -> Result<(), GateError> {
        Ok(())
    }

    fn fragment(&mut self, _: Vec<u8>, _: bool) {}
}
