//! One HTTP GET, for admin ports: Envoy's and the distributor's.
//!
//! HTTP/1.0, so that the end of the connection is the end of the answer. It follows nothing,
//! retries nothing and knows no TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Fetches `path` and returns the body of an answer with status 200.
///
/// # Errors
///
/// What the connection said, or [`io::ErrorKind::Other`] with the status line and the body of any
/// other answer.
pub(crate) fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    body(&answer).map(str::to_owned)
}

fn body(answer: &str) -> io::Result<&str> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") {
        Ok(body)
    } else {
        Err(io::Error::other(format!("{status}: {}", body.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_200_is_an_answer() {
        assert_eq!(
            body("HTTP/1.0 200 OK\r\nA: b\r\n\r\nLIVE\n").unwrap(),
            "LIVE\n"
        );
        let refused = body("HTTP/1.1 503 Service Unavailable\r\n\r\nINITIALIZING\n").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "HTTP/1.1 503 Service Unavailable: INITIALIZING"
        );
        let cut = body("HTTP/1.1 200 OK\r\n").unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }
}
