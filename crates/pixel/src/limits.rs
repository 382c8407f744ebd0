/// Caps on what a header may make us allocate, with their reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Rows times Columns of one frame. The largest radiographs and mammograms have about 35 million pixels; a decoded
    /// frame of this size takes 128 MiB at 16 bits and 192 MiB as display-ready RGB.
    pub pixels_per_frame: u64,
    /// Frames of one instance. Enhanced CT and MR reach 10 000.
    pub frames: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pixels_per_frame: 64 << 20, frames: 1 << 16 }
    }
}
