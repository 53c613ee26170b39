//! Why a request got no answer, in few words.
//!
//! The client's own errors are chains whose outer links say little and may
//! show the URL. What helps is found further in.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::CertificateError;

/// One short line about `error`, naming the destination by `authority` only.
pub(crate) fn reason(error: &reqwest::Error, authority: &str, connect_timeout: Duration) -> String {
    if error.is_connect() && error.is_timeout() {
        let seconds = connect_timeout.as_secs_f64();
        return format!("connecting timed out after {seconds} s ({authority})");
    }
    let chain: Vec<&(dyn Error + 'static)> = causes(error).collect();
    let deepest = chain.last().map(ToString::to_string).unwrap_or_default();
    if chain.iter().any(|cause| cause.to_string() == "dns error") {
        return format!("dns: {deepest} ({authority})");
    }
    chain
        .iter()
        .find_map(|cause| known(*cause, authority))
        .unwrap_or_else(|| format!("{deepest} ({authority})"))
}

/// The links below `error`, which itself may show the URL.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause| next(*cause))
}

fn next<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    // The error inside an `io::Error` is not its source.
    match cause
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(inner) => Some(inner),
        None => cause.source(),
    }
}

/// The reason behind one link, where it is one that tells something.
fn known(cause: &(dyn Error + 'static), authority: &str) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        return Some(format!("tls: {} ({authority})", tls(error)));
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return if error.is_incomplete_message() {
            Some(format!("connection closed before the answer ({authority})"))
        } else if error.is_parse() {
            Some(format!("the answer is not HTTP ({authority})"))
        } else {
            None
        };
    }
    let error = cause.downcast_ref::<io::Error>()?;
    if error.get_ref().is_some() {
        return None;
    }
    let what = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        io::ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        _ => error.to_string(),
    };
    Some(format!("{what} ({authority})"))
}

fn tls(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return match error {
            rustls::Error::InvalidMessage(_) => "the other side does not speak TLS".to_owned(),
            other => other.to_string(),
        };
    };
    match certificate {
        CertificateError::UnknownIssuer => {
            "certificate of an unknown authority; name an internal one in ca_file".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "certificate is for another name".to_owned()
        }
        other => format!("certificate cannot be accepted: {other}"),
    }
}
