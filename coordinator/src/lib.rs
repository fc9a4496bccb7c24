//! The daemon of a cluster: who is there ([`registry`], [`fleet`]), what they are to do ([`planning`], [`sweeps`]), what came of
//! it ([`ingest`]), and who may ask ([`operator`], [`http`]).

pub mod clock;
pub mod config;
pub mod documents;
pub mod epoch;
pub mod fleet;
pub mod hello;
pub mod http;
pub mod ingest;
pub mod judging;
pub mod metrics;
pub mod notify;
pub mod operator;
pub mod planning;
pub mod probe_keys;
pub mod registry;
pub mod server;
pub mod session;
pub mod state_dir;
pub mod store;
pub mod sweeps;

/// The version, with the commit.
pub const VERSION: &str = env!("RAILGAUGE_VERSION");

/// An error with its causes, as one sentence.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        sentence.push_str(": ");
        sentence.push_str(&error.to_string());
        cause = error.source();
    }
    sentence
}
