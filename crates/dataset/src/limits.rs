/// Every cap on what a peer may make us do, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one instance as received. Breast tomosynthesis and whole-slide tiles reach 2 GB; more is an attack.
    pub instance_bytes: u64,
    /// Bytes that a deflated data set may inflate to (a 292 kB file in the test set inflates to 300 MB).
    pub inflated_bytes: u64,
    /// Nested sequences. Real SR trees stay below 20; dicom-rs overflows its stack at about 5000.
    pub depth: usize,
    /// Elements, items and delimiters in all. An enhanced multi-frame of 10 000 frames has about half a million.
    pub elements: u64,
    /// Items with an element in them: an object of one takes 1.3 kB, however little the item holds. An enhanced multi-frame
    /// of 65 536 frames, the most that are read, may have eleven for each.
    pub filled_items: u64,
    /// Bytes of a value that the header keeps. Longer values (pixels, curves, icons) are skipped, not copied.
    pub header_value_bytes: usize,
    /// What the kept values may take together, with 64 bytes for each. Real headers stay below 300 kB; elements beyond
    /// are skipped as long values are, but for what says whose an instance is.
    pub header_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            instance_bytes: 4 << 30,
            inflated_bytes: 256 << 20,
            depth: 64,
            elements: 2_000_000,
            filled_items: 750_000,
            header_value_bytes: 64 << 10,
            header_bytes: 4 << 20,
        }
    }
}
