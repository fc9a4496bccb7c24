//! Asking a server on this machine for a page: what the rows need, and no more.

use crate::Failure;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A page that takes longer than this is none.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// As 200.
    pub status: u16,
    /// Its `Content-Type`.
    pub kind: String,
    /// Its octets.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET path` from `address`, with an `Accept` header where one is given.
///
/// # Errors
/// When nothing answers, or what answers is no HTTP.
pub fn get(address: &str, path: &str, accept: Option<&str>) -> Result<Answer, Failure> {
    let what = || format!("GET http://{address}{path}");
    let cannot = |error: std::io::Error| Failure::because(what(), error);
    let to: SocketAddr = address.parse().map_err(|error| Failure::because(what(), error))?;
    let mut stream = TcpStream::connect(to).map_err(cannot)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(cannot)?;
    let accept = accept.map(|accept| format!("Accept: {accept}\r\n")).unwrap_or_default();
    // HTTP/1.0: the body comes in one piece, up to the end of the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{accept}\r\n");
    stream.write_all(request.as_bytes()).map_err(cannot)?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).map_err(cannot)?;
    parse(&all).ok_or_else(|| Failure::new(format!("{}: what came back is no HTTP", what())))
}

fn parse(all: &[u8]) -> Option<Answer> {
    let end = all.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&all[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| -> Option<String> {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-type").then(|| value.trim().to_owned())
    };
    let kind = head.lines().find_map(header).unwrap_or_default();
    Some(Answer { status, kind, body: all[end + 4..].to_vec() })
}

/// `text` as a value in a query.
pub fn escaped(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer =
            parse(b"HTTP/1.0 404 Not Found\r\ncontent-type: text/plain\r\n\r\na\r\n\r\nb").unwrap();
        assert_eq!((answer.status, answer.kind.as_str()), (404, "text/plain"));
        assert_eq!(answer.text(), "a\r\n\r\nb");
        assert_eq!(parse(b"SSH-2.0"), None);
        assert_eq!(escaped("up{a=\"b c\"}"), "up%7Ba%3D%22b%20c%22%7D");
    }
}
