//! Where a `forward` handler sends, resolved once: the URL without its
//! credentials, the header fields that never change, and the client.

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use percent_encoding::percent_decode_str;
use reqwest::{Client, Url};
use secrecy::ExposeSecret as _;

use super::ForwardConfig;
use super::redact::Redactor;
use crate::handler::tls::{Trust, client_config};
use crate::handler::{BuildContext, BuildError};

/// Idle connections kept to the destination.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// How long a connection may go without a sign of life. Without it a peer that
/// vanished silently would cost every attempt its whole timeout.
const LIVENESS_TIMEOUT: Duration = Duration::from_secs(15);

/// How much of an HTTP/2 answer may come before we read it: one window per
/// stream, since at most 64 KiB are read anyway.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 << 10;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// A destination as the configuration names it.
pub(super) struct Destination {
    /// Without user and password.
    pub url: Url,
    /// Host and port.
    pub authority: String,
    /// The header fields that are the same in every request.
    pub headers: HeaderMap,
    /// Knows every secret that was configured.
    pub redactor: Redactor,
}

impl Destination {
    pub(super) fn resolve(
        config: &ForwardConfig,
        context: &BuildContext<'_>,
    ) -> Result<Self, BuildError> {
        let mut url = parse_url(config, context)?;
        let mut secrets: Vec<String> = Vec::new();
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
        if let Some(basic) = take_credentials(&mut url, &mut secrets) {
            headers.insert(AUTHORIZATION, basic);
        }
        query_secrets(&url, &mut secrets);
        for (name, value) in &config.headers {
            let value = value.expose_secret();
            let (name, value) = configured_header(name, value, context, &mut secrets)?;
            headers.insert(name, value);
        }
        if let Some(token) = &config.bearer_token {
            let token = token.expose_secret();
            headers.insert(AUTHORIZATION, bearer(token, context)?);
            secrets.push(token.to_owned());
        }
        Ok(Self {
            authority: authority(&url),
            url,
            headers,
            redactor: Redactor::new(secrets),
        })
    }
}

const USER_AGENT_VALUE: &str = concat!("ims-receiver/", env!("CARGO_PKG_VERSION"));

/// The client for `url`.
pub(super) fn client(
    url: &Url,
    config: &ForwardConfig,
    connect_timeout: Duration,
    context: &BuildContext<'_>,
) -> Result<Client, BuildError> {
    let trust = if url.scheme() == "https" {
        Trust::System(config.ca_file.as_deref())
    } else {
        Trust::Nobody
    };
    let tls = client_config(trust, &[b"h2", b"http/1.1"])
        .map_err(|error| context.error("ca_file", error.to_string(), HINT_CA_FILE))?;
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        // When to try again is the dispatcher's business alone.
        .retry(reqwest::retry::never())
        .no_proxy()
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .tcp_keepalive(LIVENESS_TIMEOUT)
        .tcp_user_timeout(LIVENESS_TIMEOUT)
        .http2_keep_alive_interval(LIVENESS_TIMEOUT)
        .http2_keep_alive_timeout(LIVENESS_TIMEOUT)
        .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .build()
        .map_err(|error| {
            let problem = format!("the HTTP client cannot be made: {}", error.without_url());
            context.error("url", problem, "report this as a bug")
        })
}

fn parse_url(config: &ForwardConfig, context: &BuildContext<'_>) -> Result<Url, BuildError> {
    let refuse = |problem: &str| context.error("url", problem, HINT_URL);
    let mut url = Url::parse(config.url.expose_secret())
        .map_err(|error| refuse(&format!("is no absolute URL ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("is neither an http nor an https URL"));
    }
    // A fragment never goes over the wire.
    url.set_fragment(None);
    Ok(url)
}

/// Host and port, the only part of a URL that reasons show.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Takes user and password out of the URL and makes `Authorization` of them.
fn take_credentials(url: &mut Url, secrets: &mut Vec<String>) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = decode(url.username());
    let password = decode(url.password().unwrap_or_default());
    secrets.extend([url.username().to_owned(), user.clone(), password.clone()]);
    secrets.extend(url.password().map(str::to_owned));
    // Both succeed for URLs with a host, which http and https always have.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let mut value =
        HeaderValue::from_str(&format!("Basic {encoded}")).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    secrets.push(encoded);
    Some(value)
}

fn query_secrets(url: &Url, secrets: &mut Vec<String>) {
    let Some(query) = url.query() else {
        return;
    };
    secrets.push(query.to_owned());
    let raw = query.split('&').filter_map(|pair| pair.split_once('='));
    secrets.extend(raw.map(|(_, value)| value.to_owned()));
    secrets.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
}

fn configured_header(
    name: &str,
    value: &str,
    context: &BuildContext<'_>,
    secrets: &mut Vec<String>,
) -> Result<(HeaderName, HeaderValue), BuildError> {
    let refuse = |what: &str| {
        let problem = format!("the {what} of {name:?} cannot stand in a header field");
        context.error("headers", problem, HINT_HEADERS)
    };
    let name = HeaderName::try_from(name).map_err(|_| refuse("name"))?;
    let mut header = HeaderValue::from_str(value).map_err(|_| refuse("value"))?;
    header.set_sensitive(true);
    secrets.push(value.to_owned());
    // `Bearer x` and the like: the token alone is the secret.
    secrets.extend(value.split_once(' ').map(|(_, token)| token.to_owned()));
    Ok((name, header))
}

fn bearer(token: &str, context: &BuildContext<'_>) -> Result<HeaderValue, BuildError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
        let problem = "the token cannot stand in a header field";
        context.error("bearer_token", problem, "use visible ASCII only")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

const HINT_URL: &str = r#"write it like "https://cms.internal/hooks/media""#;
const HINT_CA_FILE: &str = "name a PEM file with the certificate of your authority";
const HINT_HEADERS: &str = "names are letters, digits and -, values are visible ASCII";
