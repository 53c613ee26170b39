//! A request as it came over the wire, and the checks that the service makes
//! before it looks at what is asked for.

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use ims_receiver::mns::sign;

use super::answer::Failure;
use super::queue::md5_hex;

/// How far the date of a request may be off, in milliseconds.
const SKEW_MAX: i64 = 15 * 60 * 1000;

pub struct Wire {
    pub method: Method,
    /// Path and query, untouched.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A key that may sign.
#[derive(Debug, Clone)]
pub struct Key {
    pub secret: String,
    /// The token that has to come along.
    pub token: Option<String>,
    /// From when on it is refused, in milliseconds since 1970.
    pub expires: Option<i64>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    Receive,
    Peek,
    Delete,
    Change,
    Send,
    Attributes,
    Manage,
}

impl Wire {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Keys in lower case, values percent-decoded and nothing else: a raw `+`
    /// is a plus sign.
    pub fn query(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
                (key.to_lowercase(), value.into_owned())
            })
            .collect()
    }

    /// Whether every key is spelt as the documentation spells it.
    pub fn is_spelt_as_documented(&self) -> bool {
        const KNOWN: [&str; 8] = [
            "waitseconds",
            "numOfMessages",
            "peekonly",
            "ReceiptHandle",
            "receiptHandle",
            "visibilityTimeout",
            "VisibilityTimeout",
            "metaoverride",
        ];
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let keys = query.split('&').filter_map(|pair| pair.split('=').next());
        keys.filter(|key| !key.is_empty())
            .all(|key| KNOWN.contains(&key))
    }

    pub fn op(&self) -> Op {
        let has = |name: &str| self.query().iter().any(|(key, _)| key == name);
        if !self.path().ends_with("/messages") {
            return match self.method {
                Method::GET if self.path().starts_with("/queues/") => Op::Attributes,
                _ => Op::Manage,
            };
        }
        match self.method {
            Method::GET if has("peekonly") => Op::Peek,
            Method::GET => Op::Receive,
            Method::DELETE => Op::Delete,
            Method::PUT => Op::Change,
            _ => Op::Send,
        }
    }

    /// The checks in the order that fits the documented codes.
    pub fn check(&self, key: impl Fn(&str) -> Option<Key>, now: i64) -> Result<(), Failure> {
        let refuse = |status, code| Err(Failure::new(status, code));
        let Some(authorization) = self.header("authorization") else {
            return refuse(400, "MissingAuthorizationHeader");
        };
        let parts = authorization
            .strip_prefix("MNS ")
            .and_then(|rest| rest.split_once(':'));
        let Some((id, _)) = parts else {
            return refuse(400, "InvalidAuthorizationHeader");
        };
        let Some(date) = self.header("x-mns-date").or(self.header("date")) else {
            return refuse(400, "MissingDateHeader");
        };
        let Some(date) = parse_date(date) else {
            return refuse(400, "InvalidDateHeader");
        };
        match self.header("x-mns-version") {
            Some("2015-06-06") => {}
            Some(_) => return refuse(400, "InvalidVersionHeader"),
            None => return refuse(400, "MissingVersionHeader"),
        }
        if (now - date).abs() > SKEW_MAX {
            return refuse(408, "TimeExpired");
        }
        let Some(key) = key(id) else {
            return refuse(403, "InvalidAccessKeyId");
        };
        let token = self.header("security-token");
        if token != key.token.as_deref() || key.expires.is_some_and(|at| now >= at) {
            return refuse(403, "InvalidAccessKeyId");
        }
        let method = self.method.as_str();
        let expected = sign::authorization(id, &key.secret, method, &self.target, &self.headers);
        if authorization != expected {
            return refuse(403, "SignatureDoesNotMatch");
        }
        self.check_md5()
    }

    /// The official clients send base64 of the hex digest, others of the digest.
    fn check_md5(&self) -> Result<(), Failure> {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        use md5::{Digest as _, Md5};
        let Some(stated) = self.header("content-md5") else {
            return Ok(());
        };
        let hex = BASE64_STANDARD.encode(md5_hex(&self.body));
        let plain = BASE64_STANDARD.encode(Md5::digest(&self.body));
        if stated == hex || stated == plain {
            Ok(())
        } else {
            Err(Failure::new(400, "InvalidDegist"))
        }
    }
}

fn parse_date(text: &str) -> Option<i64> {
    let date = httpdate::parse_http_date(text).ok()?;
    let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}
