//! Tests over files and over the public interface.

mod choose;
mod mapping;
mod policy;
mod references;
mod series;
mod spacing;
mod support;
mod views;
