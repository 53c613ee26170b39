//! The scheme that lets everybody in. It has to be written out in the
//! configuration, and `check` warns about it.

use jiff::Timestamp;

use super::{HeadVerdict, Scheme, SchemeName, SignatureError, Verified};
use crate::request::RequestHead;

/// Accepts every request.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSignature;

impl Scheme for NoSignature {
    fn check_head(
        &self,
        _head: &RequestHead<'_>,
        _now: Timestamp,
    ) -> Result<HeadVerdict, SignatureError> {
        Ok(HeadVerdict::Authentic(Verified {
            scheme: SchemeName::None,
            key: None,
            url: None,
            public_origin: false,
            skew_seconds: None,
            signature: None,
        }))
    }
}
