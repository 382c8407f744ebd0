/// Why the pixels of an instance cannot be had. Each variant is something else to do; none carries an attribute's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no Pixel Data of any kind: not an image, skip it.
    #[error("the instance has no pixel data")]
    NoPixelData,
    /// No decoder for this transfer syntax: ask the sender for another one.
    #[error("pixel data in transfer syntax {uid} ({name}) cannot be decoded: {reason}")]
    UnsupportedTransferSyntax {
        /// Its UID.
        uid: &'static str,
        /// Its name in PS3.6.
        name: &'static str,
        /// Why there is none.
        reason: &'static str,
    },
    /// The image is of a valid kind that is not supported.
    #[error("{what} is not supported")]
    Unsupported {
        /// Which kind.
        what: String,
    },
    /// An attribute of the Image Pixel module (PS3.3 C.7.6.3) is missing, impossible or contradicts another one.
    #[error("the header is malformed: {what}")]
    Malformed {
        /// What is wrong.
        what: String,
    },
    /// The file cannot be read any more: look at the disk.
    #[error("its pixels cannot be read: {0}")]
    Unreadable(String),
    /// The header asks for more than the limits allow.
    #[error("{found} {what} is more than the limit of {limit}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// What the header says.
        found: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The machine has no memory for a frame that is within the limits: try again later.
    #[error("{bytes} bytes of memory for a frame cannot be had")]
    OutOfMemory {
        /// How many it takes.
        bytes: u64,
    },
    /// There is less pixel data than the header asks for: the instance arrived incomplete.
    #[error("the pixel data is incomplete: {expected} bytes are due, {available} are there")]
    Truncated {
        /// Bytes due.
        expected: u64,
        /// Bytes there.
        available: u64,
    },
    /// There is no such frame.
    #[error("frame {frame} does not exist: the instance has {frames}")]
    NoSuchFrame {
        /// The frame asked for, from 0.
        frame: u32,
        /// How many there are.
        frames: u32,
    },
    /// The compressed image is not the one that the header describes.
    #[error("the {codec} codestream has {found} {what}, the header says {expected}")]
    Mismatch {
        /// Which codec.
        codec: &'static str,
        /// Of what.
        what: &'static str,
        /// What the codestream says.
        found: u64,
        /// What the header says.
        expected: u64,
    },
    /// The compressed image is damaged, or of a kind that its decoder cannot read.
    #[error("the {codec} decoder failed: {reason}")]
    Codec {
        /// Which codec.
        codec: &'static str,
        /// What it said.
        reason: String,
    },
}

impl Error {
    /// A sentence for a report: what cannot be read, and why.
    pub fn sentence(&self) -> String {
        format!("The image cannot be read, because {self}.")
    }

    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed { what: what.into() }
    }

    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into() }
    }

    pub(crate) fn codec(codec: &'static str, reason: impl ToString) -> Self {
        Self::Codec { codec, reason: reason.to_string() }
    }
}
