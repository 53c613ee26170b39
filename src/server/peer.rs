//! Who sent a request: the connection's address, or what trusted proxies say.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

use crate::ingest::canonical_net;

pub(super) const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The proxies whose `X-Forwarded-For` is believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Believes whoever comes from one of `nets`; IPv4-mapped ones count as IPv4.
    pub fn new(nets: &[IpNet]) -> Self {
        Self(nets.iter().map(canonical_net).collect())
    }

    /// The peer of a request that came from `connection`: that address, or
    /// behind trusted proxies the right-most forwarded one that is not
    /// trusted. Where all are trusted it is the left-most, the farthest that
    /// is known. `None` where an address on the way cannot be read: whoever
    /// wrote it may have hidden a stranger behind it.
    pub fn peer(&self, connection: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let mut peer = connection.to_canonical();
        if !self.trusts(peer) {
            return Some(peer);
        }
        for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
            for element in line.to_str().ok()?.rsplit(',').map(str::trim) {
                if element.is_empty() {
                    continue;
                }
                peer = address(element)?;
                if !self.trusts(peer) {
                    return Some(peer);
                }
            }
        }
        Some(peer)
    }

    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }
}

/// Reads `ip`, `ip:port`, `[ipv6]` and `[ipv6]:port`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let ip = if let Some(ipv6) = bare {
        ipv6.parse::<std::net::Ipv6Addr>().ok()?.into()
    } else if let Ok(ip) = text.parse::<IpAddr>() {
        ip
    } else {
        text.parse::<SocketAddr>().ok()?.ip()
    };
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(connection: &str, lines: &[&str]) -> Option<String> {
        let nets = ["10.0.0.0/8", "::ffff:192.168.0.0/112", "fd00::/8"];
        let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, line.parse().unwrap());
        }
        let peer = TrustedProxies::new(&nets).peer(connection.parse().unwrap(), &headers);
        peer.map(|peer| peer.to_string())
    }

    #[test]
    fn the_right_most_untrusted_address_counts() {
        for (connection, lines, expected) in [
            ("203.0.113.9", &["198.51.100.1"][..], Some("203.0.113.9")),
            ("10.0.0.1", &[], Some("10.0.0.1")),
            ("10.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            ("10.0.0.1", &["1.1.1.1, 2.2.2.2,10.0.0.2"], Some("2.2.2.2")),
            ("10.0.0.1", &["1.1.1.1", "2.2.2.2"], Some("2.2.2.2")),
            ("10.0.0.1", &["1.1.1.1", "10.0.0.2"], Some("1.1.1.1")),
            ("10.0.0.1", &["10.0.0.9, 10.0.0.2"], Some("10.0.0.9")),
            ("::ffff:10.0.0.1", &["1.1.1.1"], Some("1.1.1.1")),
            ("192.168.0.7", &["::ffff:1.1.1.1"], Some("1.1.1.1")),
            ("::ffff:203.0.113.9", &["1.1.1.1"], Some("203.0.113.9")),
            ("fd00::1", &["1.1.1.1:8080"], Some("1.1.1.1")),
            ("fd00::1", &["[2001:db8::1]:443"], Some("2001:db8::1")),
            ("fd00::1", &["[2001:db8::1]"], Some("2001:db8::1")),
            ("fd00::1", &["2001:db8::1"], Some("2001:db8::1")),
            ("10.0.0.1", &["1.1.1.1, "], Some("1.1.1.1")),
        ] {
            let found = peer(connection, lines);
            assert_eq!(found.as_deref(), expected, "{connection} {lines:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_nobody() {
        for line in [
            "unknown",
            "_hidden",
            "1.1.1.1, unknown",
            "1.1.1",
            "[1.1.1.1]",
            "1.1.1.1:x",
        ] {
            assert_eq!(peer("10.0.0.1", &[line]), None, "{line}");
        }
        assert_eq!(
            peer("10.0.0.1", &["unknown, 1.1.1.1"]).as_deref(),
            Some("1.1.1.1"),
            "nobody looks past an untrusted address"
        );
    }
}
