//! The JSON documents of the operator API. Nothing is built yet: their types come with the report crate.

use railgauge_proto::v1;
use tonic::Status;

use crate::fleet::Fleet;
use crate::ingest::Ingest;

/// Schema `railgauge/paths/v1`.
///
/// # Errors
/// Always, for now.
pub async fn paths(
    _fleet: &Fleet,
    _ingest: &Ingest,
    _request: &v1::ListPathsRequest,
) -> Result<Vec<u8>, Status> {
    Err(Status::unimplemented("this coordinator does not list paths yet"))
}

/// Schema `railgauge/findings/v1`.
///
/// # Errors
/// Always, for now.
pub async fn findings(_fleet: &Fleet, _ingest: &Ingest) -> Result<Vec<u8>, Status> {
    Err(Status::unimplemented("this coordinator does not judge yet"))
}
