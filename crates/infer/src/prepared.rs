//! The seam between image processors and the engine: what was made of a request's images.

use crate::answer::Placement;

/// What an image processor made of a request's images: feeds of the vision graph, and how they lie in it.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) pixel_values: Pixels,
    pub(crate) pixel_attention_mask: Option<Mask>,
    /// Qwen: frames, rows and columns of patches, of each image.
    pub(crate) image_grid_thw: Option<Vec<[i64; 3]>>,
    /// Phi-3.5-vision and LLaVA-OneVision: height and width of each image.
    pub(crate) image_sizes: Option<Vec<[i64; 2]>>,
    /// One per image of the request.
    pub(crate) images: Vec<Arrangement>,
    /// Where the images lie in what was seen.
    pub(crate) placements: Vec<Placement>,
}

/// How one image became what the vision graph sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrangement {
    /// One view.
    Whole,
    /// Idefics3 and SmolVLM: tiles row by row, then the whole image; 0 x 0 is the whole image alone.
    Tiles { rows: usize, columns: usize },
    /// Qwen: a grid of patches, `merge` x `merge` of which become one token.
    Grid { frames: usize, rows: usize, columns: usize, merge: usize },
    /// Gemma 3 with pan and scan: the whole image, then crops.
    Crops { count: usize },
    /// Phi-3.5-vision: the whole image, then tiles.
    HighDefinition { rows: usize, columns: usize },
    /// LLaVA-OneVision and LLaVA-NeXT: the whole image, then tiles; and the size the image came in.
    AnyResolution { rows: usize, columns: usize, height: u32, width: u32 },
    /// LLaVA-OneVision with several images: one view, padded to a square.
    Padded,
}

/// Values for a vision graph, row-major.
#[derive(Debug, Clone)]
pub(crate) struct Pixels {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// Which of the pixels are an image's and which are padding, row-major.
#[derive(Debug, Clone)]
pub(crate) struct Mask {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<bool>,
}
