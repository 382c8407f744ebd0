//! What the end-to-end tests, the demonstration and the benchmark share: the shipped program as a child process, and
//! the peers it talks to. Nothing here knows the inside of `preread`.

pub mod child;
pub mod daemon;
pub mod instance;
pub mod orthanc;
pub mod peers;
pub mod place;
pub mod port;
pub mod random;
pub mod readme;
pub mod recorder;
pub mod samples;
pub mod scp;
pub mod scu;
pub mod silence;
pub mod small_disk;
pub mod sr;
pub mod wait;

mod command;
mod http;
