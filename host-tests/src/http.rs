//! One HTTP GET, for admin ports: Envoy's and the distributor's.
//!
//! The connection is closed after one answer, whose body may come in chunks. (HTTP/1.0, which has
//! none, is refused by Envoy.) It follows nothing, retries nothing and knows no TLS.

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
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    body(&answer)
}

fn body(answer: &str) -> io::Result<String> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    let is_chunked = |line: &str| line.eq_ignore_ascii_case("transfer-encoding: chunked");
    let body = if lines.any(is_chunked) {
        unchunked(body).ok_or(io::ErrorKind::UnexpectedEof)?
    } else {
        body.to_owned()
    };
    if status.split(' ').nth(1) == Some("200") {
        Ok(body)
    } else {
        Err(io::Error::other(format!("{status}: {}", body.trim())))
    }
}

/// The chunks put together; `None` if the last one is missing.
fn unchunked(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
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

    #[test]
    fn chunks_are_put_together() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let whole = format!("{head}3\r\nab\n\r\na\r\n0123456789\r\n0\r\n\r\n");
        assert_eq!(body(&whole).unwrap(), "ab\n0123456789");
        let cut = body(&format!("{head}3\r\nab\n\r\n")).unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }
}
