use std::time::Duration;

/// Caps on what a header or a codestream may make us allocate and how long it may keep a decoder busy, with their reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Rows times Columns of one frame. The largest radiographs and mammograms have about 35 million pixels; a decoded
    /// frame of this size takes 128 MiB at 16 bits and 192 MiB as display-ready RGB.
    pub pixels_per_frame: u64,
    /// Frames of one instance. Enhanced CT and MR reach 10 000.
    pub frames: u32,
    /// Bytes that a decoder may hold while it works on one frame, by estimate from what the codestream says of itself.
    /// JPEG 2000 takes 28 for a sample that is in one tile, so a mammogram of 35 million pixels takes 940 MiB.
    pub memory_per_frame: u64,
    /// Time for one frame, by estimate (see [`estimated_time`](crate::estimated_time)).
    pub time_per_frame: Duration,
    /// Time for all frames of a study that are decoded, by estimate (see [`Budget`]).
    pub time_per_study: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pixels_per_frame: 64 << 20,
            frames: 1 << 16,
            memory_per_frame: 1 << 30,
            time_per_frame: Duration::from_secs(60),
            time_per_study: Duration::from_secs(30 * 60),
        }
    }
}
