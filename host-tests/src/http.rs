//! One HTTP GET, for admin ports: Envoy's and the distributor's.
//!
//! It follows nothing, retries nothing, keeps no connection and knows no TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Fetches `path` and returns the body of an answer with status 200.
///
/// # Errors
///
/// What the connection said, or [`io::ErrorKind::Other`] with the status line and the body of any
/// other answer.
pub fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<String> {
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
    let (head, rest) = answer
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut head = head.lines();
    let status = head.next().unwrap_or_default();
    let header = |name: &str| {
        let pairs = head.clone().filter_map(|line| line.split_once(": "));
        pairs
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .next_back()
    };
    let body = if header("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        unchunk(rest)?
    } else if header("content-length").is_some_and(|length| length != rest.len().to_string()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    } else {
        rest.to_owned()
    };
    if status.split(' ').nth(1) == Some("200") {
        Ok(body)
    } else {
        Err(io::Error::other(format!("{status}: {}", body.trim())))
    }
}

/// Joins the chunks of a body, which must be complete.
fn unchunk(mut rest: &str) -> io::Result<String> {
    let mut body = String::new();
    loop {
        let (size, data) = rest
            .split_once("\r\n")
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
        if size == 0 {
            return Ok(body);
        }
        // A chunk may end within a character only if the answer is no text.
        body.push_str(data.get(..size).ok_or(io::ErrorKind::UnexpectedEof)?);
        rest = data.get(size + 2..).ok_or(io::ErrorKind::UnexpectedEof)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_whole_or_in_chunks() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nLIVE\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nLIV\r\n2\r\nE\n\r\n0\r\n\r\n",
        ] {
            assert_eq!(body(answer).unwrap(), "LIVE\n", "{answer}");
        }
    }

    #[test]
    fn another_status_is_an_error_that_says_what_the_body_says() {
        let refused = body("HTTP/1.1 503 Service Unavailable\r\n\r\nINITIALIZING\n").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "HTTP/1.1 503 Service Unavailable: INITIALIZING"
        );
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        for answer in [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nLIVE\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nLIV",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nLIV\r\n",
        ] {
            let cut = body(answer).unwrap_err();
            assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof, "{answer}");
        }
    }
}
