//! A bounded, trusted view of DICOM bytes.
//!
//! Bytes from a peer or a file pass the [`gate`] first: an iterative scan that bounds nesting, element count, declared
//! lengths and inflation. Objects are built by the same walk. Nothing here knows the network, the
//! disk's layout or a model.

mod charset;
mod data_set;
mod digest;
mod error;
mod front;
pub mod gate;
mod header;
mod instance;
mod large;
mod limits;
mod object;
pub mod part10;
mod phi;
mod rewrite;
mod same;
mod source;
mod texts;
mod transfer_syntax;
mod uid;

pub use charset::{CharacterSet, Cleaned, Meaning};
pub use data_set::parse_data_set;
pub use digest::{Digest, Digester};
pub use error::Error;
pub use front::Code;
pub use header::Header;
pub use instance::Instance;
pub use large::NativePixels;
pub use limits::Limits;
pub use phi::Phi;
pub use rewrite::{rewrite_bytes, rewritten};
pub use same::{differing, keyword};
pub use transfer_syntax::TransferSyntax;
pub use uid::{Uid, UidError};

/// Attribute tags by their keyword (PS3.6 table 6-1).
pub use dicom_core::Tag;
pub use dicom_dictionary_std::tags;

/// The Implementation Class UID in everything `preread` writes (PS3.7 D.3.3.2).
pub const IMPLEMENTATION_CLASS_UID: &str = "2.25.238614217943208311953409286158703245217";

/// The Implementation Version Name in everything `preread` writes; at most 16 characters (PS3.7 D.3.3.2.3).
pub const IMPLEMENTATION_VERSION_NAME: &str = "PREREAD_0";

/// The Manufacturer that marks our own objects, so that they never start a reading.
pub const MANUFACTURER: &str = "preread";
