//! Addresses as Envoy prints them in `source.address` and `destination.address`.

use std::net::SocketAddr;

/// Reads `ip:port` or `[ip]:port` (with a numeric scope, if any) without allocating.
///
/// `None` for everything else, such as the path of a Unix socket; the caller must then deny.
pub fn parse(property: &[u8]) -> Option<SocketAddr> {
    std::str::from_utf8(property).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_with_their_port() {
        let v4 = parse(b"10.0.1.2:8080").unwrap();
        assert_eq!((v4.ip(), v4.port()), ([10, 0, 1, 2].into(), 8080));
        let v6 = parse(b"[2001:db8::7]:65535").unwrap();
        assert_eq!(v6.ip(), "2001:db8::7".parse::<std::net::IpAddr>().unwrap());
        assert_eq!(v6.port(), 65535);
    }

    #[test]
    fn mapped_and_scoped_v6() {
        assert_eq!(
            parse(b"[::ffff:10.0.1.2]:80").unwrap().ip().to_canonical(),
            std::net::IpAddr::from([10, 0, 1, 2])
        );
        assert!(parse(b"[fe80::1%2]:80").is_some());
    }

    #[test]
    fn everything_else_is_nothing() {
        for bytes in [
            &b""[..],
            b"10.0.1.2",
            b"10.0.1.2:",
            b"10.0.1.2:65536",
            b"10.0.1:80",
            b"10.0.01.2:80",
            b"2001:db8::7:80",
            b"[2001:db8::7]",
            b"/run/app.sock",
            b"@abstract",
            b"envoy://internal/x",
            b"10.0.1.2:80\0",
            b" 10.0.1.2:80",
            b"\xff\xfe",
        ] {
            assert_eq!(parse(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
