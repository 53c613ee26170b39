//! What is decided about a request before the store is asked, in the order
//! that the contract gives.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::{Method, Request};
use jiff::Timestamp;

use super::ServerConfig;
use super::body::BodyError;
use super::error::Rejection;
use super::head::check_size;
use super::peer::TrustedProxies;
use crate::clock::Clock;
use crate::ingest::Source;
use crate::request::{KeptHead, RequestHead};
use crate::signature::{BodyCheck, HeadVerdict, SignatureError, Verified};

/// Judges the requests to a listener.
#[derive(Debug)]
pub(super) struct Judge {
    trusted_proxies: TrustedProxies,
    body_bytes_max: usize,
    clock: Arc<dyn Clock>,
}

/// What a head proved about its sender.
#[derive(Debug)]
pub(super) enum Proof {
    /// All there is to prove.
    Head(Verified),
    /// Nothing yet: the body is signed.
    Body(BodyCheck),
}

impl Judge {
    pub(super) fn new(config: &ServerConfig, clock: Arc<dyn Clock>) -> Self {
        Self {
            trusted_proxies: TrustedProxies::new(&config.trusted_proxies),
            body_bytes_max: config.body_bytes_max,
            clock,
        }
    }

    /// The time to judge by.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The largest body, in bytes.
    pub(super) fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    /// The proxies whose word about the peer counts.
    pub(super) fn trusted_proxies(&self) -> &TrustedProxies {
        &self.trusted_proxies
    }

    /// Who sent a request that came over a connection from `from`; `None`
    /// where nobody can say.
    pub(super) fn peer(&self, from: IpAddr, request: &Request<Incoming>) -> Option<IpAddr> {
        self.trusted_proxies.peer(from, request.headers())
    }

    /// Size, method, peer, signature.
    pub(super) fn head(
        &self,
        source: &Source,
        request: &Request<Incoming>,
        peer: Option<IpAddr>,
    ) -> Result<(Proof, KeptHead), Rejection> {
        check_size(request)?;
        if request.method() != Method::POST {
            return Err(Rejection::MethodNotAllowed {
                allow: Some("POST"),
            });
        }
        if !source.admits(peer) {
            return Err(Rejection::Peer);
        }
        let head = RequestHead {
            uri: request.uri(),
            headers: request.headers(),
        };
        let proof = match source.check_head(&head, self.clock.now())? {
            HeadVerdict::Authentic(verified) => {
                source.count_authentic(&verified);
                Proof::Head(verified)
            }
            HeadVerdict::NeedsBody(check) => Proof::Body(check),
        };
        Ok((proof, KeptHead::from_head(&head, peer)))
    }

    /// What the head announces of the body.
    pub(super) fn announced(&self, body: &Incoming) -> Result<(), BodyError> {
        match body.size_hint().exact() {
            Some(announced) if announced > self.body_bytes_max as u64 => Err(BodyError::TooLarge),
            _ => Ok(()),
        }
    }
}

impl Proof {
    /// What is proved without the body; `None` where all of it is needed.
    pub(super) fn verified(&self) -> Option<&Verified> {
        match self {
            Self::Head(verified) => Some(verified),
            Self::Body(_) => None,
        }
    }

    /// What is proved once the whole body is there.
    pub(super) fn complete(self, source: &Source, body: &[u8]) -> Result<Verified, SignatureError> {
        match self {
            Self::Head(verified) => Ok(verified),
            Self::Body(check) => {
                let verified = check.check(body)?;
                source.count_authentic(&verified);
                Ok(verified)
            }
        }
    }
}
