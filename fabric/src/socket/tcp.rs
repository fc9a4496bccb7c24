//! TCP request/response.
