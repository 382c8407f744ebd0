//! Tests over files and over the public interface.

mod choose;
mod mapping;
mod references;
