//! Addresses, networks, paths and URLs.

use std::net::{IpAddr, SocketAddr};

use axum::http::Uri;
use ipnet::IpNet;
use reqwest::Url;

use super::Resolver;

/// IMS takes callback URLs up to this many bytes.
const CALLBACK_URL_BYTES_MAX: usize = 256;

impl Resolver<'_> {
    pub(super) fn address(&mut self, key: &str, text: &str) -> Option<SocketAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            self.problem(
                key,
                format!("\"{text}\" is no address with a port"),
                r#"write "0.0.0.0:8080", or "[::]:8080" for IPv6 as well"#,
            );
        }
        address
    }

    /// Networks; a plain address stands for itself alone.
    pub(super) fn networks(&mut self, key: &str, texts: &[String]) -> Option<Vec<IpNet>> {
        let mut networks = Vec::with_capacity(texts.len());
        for (position, text) in texts.iter().enumerate() {
            let plain = || text.parse::<IpAddr>().ok().map(IpNet::from);
            match text.parse::<IpNet>().ok().or_else(plain) {
                Some(network) => networks.push(network.trunc()),
                None => self.problem(
                    format!("{key}[{position}]"),
                    format!("\"{text}\" is neither a network nor an address"),
                    r#"write "10.0.0.0/8" or "192.0.2.7""#,
                ),
            }
        }
        (networks.len() == texts.len()).then_some(networks)
    }

    /// A path as requests carry it, compared byte for byte.
    pub(super) fn path(&mut self, key: &str, text: String) -> Option<String> {
        let fault = if !text.starts_with('/') {
            "does not begin with `/`"
        } else if text.contains(['?', '#']) {
            "has a query or a fragment, while only the path is compared"
        } else if !text.bytes().all(|b| b.is_ascii_graphic()) {
            "holds a blank or a character that no request carries as it is"
        } else if text.parse::<Uri>().is_err() {
            "can stand in no request"
        } else {
            return Some(text);
        };
        self.problem(
            key,
            format!("\"{text}\" {fault}"),
            r#"write a path such as "/ims/callback", percent-encoded where needed"#,
        );
        None
    }

    /// A callback URL, kept as it is written, since that is what was signed.
    pub(super) fn callback_url(&mut self, key: &str, text: &str, path: Option<&str>) {
        let Some(url) = absolute_http(text) else {
            self.problem(
                key,
                format!("\"{text}\" is no absolute http or https URL"),
                r#"write it exactly as configured at IMS, such as "https://callbacks.example.com/ims/callback""#,
            );
            return;
        };
        if text.len() > CALLBACK_URL_BYTES_MAX {
            self.problem(
                key,
                format!(
                    "has {} bytes, and IMS takes at most {CALLBACK_URL_BYTES_MAX}",
                    text.len()
                ),
                "write it exactly as configured at IMS",
            );
        }
        if url.scheme() == "http" {
            self.warn(
                key,
                "is plain http: whoever is in between reads every event",
                "use https",
            );
        }
        let own = path_of(text);
        if let Some(path) = path.filter(|path| *path != own) {
            self.warn(
                key,
                format!("its path {own} is not the source's path {path}"),
                "right only where a proxy in front changes the path",
            );
        }
    }

    /// Scheme and host, perhaps a port, and nothing else.
    pub(super) fn origin(&mut self, key: &str, text: &str) {
        let rest = text.split_once("://").map(|(_, rest)| rest);
        let bare = rest.is_some_and(|rest| !rest.contains(['/', '?', '#', '@']));
        match absolute_http(text).filter(|_| bare) {
            Some(url) if url.scheme() == "http" => {
                self.warn(key, "is plain http: whoever is in between reads every event", "use https");
            }
            Some(_) => {}
            None => self.problem(
                key,
                format!("\"{text}\" is no origin: scheme and host, perhaps a port, and no slash after them"),
                r#"write "https://callbacks.example.com""#,
            ),
        }
    }
}

/// A complete http or https URL. The parser drops blanks at the ends and line
/// breaks anywhere; they would be wrong all the same, so they are refused.
pub(super) fn absolute_http(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once("://")?;
    let fits = matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https")
        && !rest.starts_with(['/', '\\'])
        && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let url = fits.then(|| Url::parse(text).ok())??;
    url.has_host().then_some(url)
}

/// The path of a URL as the request will carry it, nothing normalised.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    rest.find('/').map_or("/", |start| &rest[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_from_urls_as_they_stand() {
        for (url, path) in [
            ("https://a.example/x/y?q=/z", "/x/y"),
            ("https://a.example", "/"),
            ("https://a.example?x", "/"),
            ("https://a.example/%7Ex/../y#f", "/%7Ex/../y"),
        ] {
            assert_eq!(path_of(url), path, "{url}");
        }
    }

    #[test]
    fn only_complete_http_urls_pass() {
        for good in ["http://a", "https://a.example:8443/x?y", "HTTPS://[::1]/"] {
            assert!(absolute_http(good).is_some(), "{good}");
        }
        for bad in [
            "a",
            "/x",
            "ftp://a",
            "https:a",
            "https:///x",
            "https://",
            " http://a",
            "http://a\n",
            "http://a b",
        ] {
            assert!(absolute_http(bad).is_none(), "{bad}");
        }
    }
}
