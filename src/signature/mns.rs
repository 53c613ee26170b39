//! What a queue let in. MNS accepts messages only from whom the queue's owner
//! authorised, and hands them only to whom its policy names; there is nothing
//! left to verify.

use bytes::Bytes;

use super::{SchemeName, Verified, VerifiedRequest};
use crate::request::{KeptHead, SourceName};

/// A message that was received from a queue over a signed request of ours.
pub fn received(source: SourceName, head: KeptHead, body: Bytes) -> VerifiedRequest {
    let verified = Verified {
        scheme: SchemeName::Mns,
        key: None,
        url: None,
        public_origin: false,
        skew_seconds: None,
        signature: None,
    };
    VerifiedRequest::new(source, verified, head, body)
}
