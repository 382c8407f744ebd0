//! What an image processor hands to the engine: the feeds of the vision graph and how the images lie in them.

use crate::answer::Placement;

/// What an image processor made of a request's images: feeds of the vision graph, and how they lie in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prepared {
    /// `pixel_values`.
    pub(crate) pixel_values: Pixels,
    /// `pixel_attention_mask`: where `pixel_values` shows the image, not padding.
    pub(crate) pixel_attention_mask: Option<Mask>,
    /// Qwen: frames, rows and columns of patches.
    pub(crate) image_grid_thw: Option<Vec<[i64; 3]>>,
    /// Phi-3.5-vision (of the padded image), LLaVA-NeXT and LLaVA-OneVision (of the image given): height, width.
    pub(crate) image_sizes: Option<Vec<[i64; 2]>>,
    /// One per image of the request.
    pub(crate) images: Vec<Arrangement>,
    /// Where the images lie in what was seen, one for each view. None of an image that was turned by 90 degrees.
    pub(crate) placements: Vec<Placement>,
}

/// Values for a vision graph, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pixels {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// A mask over values for a vision graph, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mask {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<bool>,
}

/// How one image became what the vision graph sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrangement {
    /// One view.
    Whole,
    /// Idefics3, SmolVLM: the tiles row by row, then the whole; 0 x 0 is the whole alone.
    Tiles { rows: usize, columns: usize },
    /// Qwen: patches, of which `merge` x `merge` become one token.
    Grid { frames: usize, rows: usize, columns: usize, merge: usize },
    /// Gemma 3 with pan and scan: the whole, then crops.
    Crops { count: usize },
    /// Phi-3.5-vision: the whole, then tiles row by row, then blank ones.
    HighDefinition { rows: usize, columns: usize },
    /// LLaVA-NeXT, LLaVA-OneVision: the whole, then tiles row by row, then blank ones; the size of the image given.
    AnyResolution { rows: usize, columns: usize, height: u32, width: u32 },
    /// LLaVA-OneVision with several images: one view, padded to a square.
    Padded,
}
