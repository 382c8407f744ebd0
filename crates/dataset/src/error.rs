use crate::{Uid, gate::GateError};

/// Why bytes are not a DICOM instance that can be worked with. No variant carries an attribute's value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read at all: check path, permissions, disk.
    #[error("cannot read: {0}")]
    Io(#[from] std::io::Error),
    /// A pipe, a device, a socket or a folder: name a file.
    #[error("it is no regular file; name a file")]
    NotAFile,
    /// No `DICM` prefix and no file meta information (PS3.10 section 7.1): not a DICOM file.
    #[error("not a DICOM Part 10 file: no DICM prefix and no file meta information group (0002,eeee)")]
    NotDicom,
    /// A file that was kept does not hold any more what was received: the disk or somebody changed it.
    #[error("damaged on the disk: it does not hold the bytes that were received")]
    Damaged,
    /// The file meta information is cut short or malformed.
    #[error("file meta information is malformed: {0}")]
    Meta(&'static str),
    /// The transfer syntax is none that the gate can walk.
    #[error("unknown transfer syntax {0}")]
    UnknownTransferSyntax(String),
    /// The transfer syntax is retired: what is encoded in it can be kept, and cannot be read.
    #[error("transfer syntax {0} is retired and cannot be read: ask the sender for another one")]
    RetiredTransferSyntax(&'static str),
    /// The gate refused the data set.
    #[error("data set refused: {0}")]
    Gate(#[from] GateError),
    /// An attribute without which an instance has no identity is absent, empty or no UID.
    #[error("{name} {tag} is missing or is not a valid UID")]
    MissingUid {
        /// The attribute's name.
        name: &'static str,
        /// The attribute's tag as `(gggg,eeee)`.
        tag: dicom_core::Tag,
    },
    /// The file is larger than the limit.
    #[error("{bytes} bytes is more than the limit of {limit} bytes for one instance")]
    TooLarge {
        /// Bytes found.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The file meta information that we write of an instance cannot be read back: a defect of this program.
    #[error("the file meta information of {0} cannot be made")]
    Parse(Uid),
}
