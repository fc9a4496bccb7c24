//! The Rust code of the gRPC wire, made from `proto/railgauge/v1/*.proto` without any compiler but protox.

use crate::Failure;
use crate::generated::Files;
use crate::repo::Repo;
use prost::Message;

/// Where it goes.
pub const DIRECTORY: &str = "proto/src/generated";

const FILES: &[&str] =
    &["railgauge/v1/types.proto", "railgauge/v1/agent.proto", "railgauge/v1/operator.proto"];

/// The generated module and the descriptors that gRPC reflection serves.
///
/// # Errors
/// When a `.proto` does not compile; protox says where.
pub fn files(repo: &Repo) -> Result<Files, Failure> {
    let cannot = |what: &str| {
        let what = format!("cannot {what}");
        move |error: std::io::Error| Failure::because(what, error)
    };
    let descriptors = protox::compile(FILES, [repo.path("proto")])
        .map_err(|error| Failure::because("cannot compile proto/*.proto", error))?;
    let made = repo.path("target/wire");
    std::fs::create_dir_all(&made).map_err(cannot("make target/wire"))?;
    let bytes = descriptors.encode_to_vec();
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        // Its octets are nobody's to read in a log; `proto` has a Debug of its own for it.
        .skip_debug([".railgauge.v1.ProbeKey"])
        // Counts what is repeated before it takes memory for it.
        .codec_path("crate::codec::Codec")
        .out_dir(&made)
        .compile_fds(descriptors)
        .map_err(cannot("make code of proto/*.proto"))?;
    let code = std::fs::read(made.join("railgauge.v1.rs")).map_err(cannot("read the code made"))?;
    Ok(Files::from([
        (format!("{DIRECTORY}/railgauge.v1.rs"), code),
        (format!("{DIRECTORY}/railgauge.v1.bin"), bytes),
    ]))
}
