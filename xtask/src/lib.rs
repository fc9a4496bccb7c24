//! The project's own steps: `test`, `long`, `tidy`, `gen`, `demo`, `deny`, `guest`.
//!
//! Each module is one step or one thing several steps need; `main.rs` only chooses. Programs under test are
//! started, stopped and read from outside, as their users do it.

pub mod checks;
pub mod command;
pub mod demo;
pub mod deny;
mod failure;
pub mod generated;
pub mod guest;
pub mod harness;
pub mod http;
pub mod long;
pub mod machine;
pub mod oracle;
pub mod package;
pub mod packages;
pub mod process;
pub mod repo;
pub mod rows;
pub mod rules;
pub mod screen;
pub mod tidy;
pub mod tools;
pub mod wire;

pub use failure::Failure;
