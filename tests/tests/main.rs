//! The shipped program against real peers: every test starts its own daemon on its own ports.

mod bombs;
mod classes;
mod cli;
mod commitment;
mod conform;
mod crash;
mod faults;
mod first_light;
mod harness;
mod hostile;
mod identity;
mod life;
mod models;
mod ohif;
mod orthanc;
mod outbound;
mod read;
mod readers;
mod scope;
mod secrets;
mod senders;
mod setup;
mod shape;
mod silence;
mod tls;
mod unit;
