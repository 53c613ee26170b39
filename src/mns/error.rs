//! What can go wrong between us and a queue, by the code that MNS gives it.

use axum::http::StatusCode;
use jiff::Timestamp;

use super::credentials::CredentialsError;

/// The codes of MNS that a consumer acts upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// Nothing to receive; or, of a change, the message is gone.
    MessageNotExist,
    /// No queue of this name at this endpoint.
    QueueNotExist,
    /// The handle has expired, or a later receive or change replaced it.
    ReceiptHandleError,
    /// A policy forbids it, or the key belongs to another account.
    AccessDenied,
    /// The secret is wrong.
    SignatureDoesNotMatch,
    /// The key is unknown or disabled, or its token has expired.
    InvalidAccessKeyId,
    /// Our clock is more than 15 minutes off.
    TimeExpired,
    /// Too many requests.
    Throttled,
    /// Any other.
    Other(String),
}

/// The longest unknown code that is kept, in bytes.
const CODE_BYTES_MAX: usize = 64;

impl Code {
    /// Reads what stands in `<Code>`.
    pub fn from_text(text: &str) -> Self {
        match text.trim() {
            "MessageNotExist" => Self::MessageNotExist,
            "QueueNotExist" => Self::QueueNotExist,
            "ReceiptHandleError" => Self::ReceiptHandleError,
            "AccessDenied" => Self::AccessDenied,
            "SignatureDoesNotMatch" => Self::SignatureDoesNotMatch,
            "InvalidAccessKeyId" => Self::InvalidAccessKeyId,
            "TimeExpired" => Self::TimeExpired,
            "TooManyRequests" | "QpsLimitExceeded" => Self::Throttled,
            other => Self::Other(printable(other, CODE_BYTES_MAX)),
        }
    }

    /// The code as MNS spells it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::MessageNotExist => "MessageNotExist",
            Self::QueueNotExist => "QueueNotExist",
            Self::ReceiptHandleError => "ReceiptHandleError",
            Self::AccessDenied => "AccessDenied",
            Self::SignatureDoesNotMatch => "SignatureDoesNotMatch",
            Self::InvalidAccessKeyId => "InvalidAccessKeyId",
            Self::TimeExpired => "TimeExpired",
            Self::Throttled => "TooManyRequests",
            Self::Other(code) => code,
        }
    }

    /// Whether the message is no longer this consumer's to delete or to keep:
    /// it was deleted, or it will come again under another handle.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::MessageNotExist | Self::ReceiptHandleError)
    }
}

/// A refusal in the words of MNS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} (status {}, request {request_id})", code.as_str(), status.as_u16())]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// What it means.
    pub code: Code,
    /// What the support of MNS asks for.
    pub request_id: String,
    /// The time of the service, where the answer has one.
    pub date: Option<Timestamp>,
}

impl Refusal {
    /// Whether it is about the date of the request, so that a corrected one
    /// may be accepted.
    pub(super) fn is_about_the_clock(&self) -> bool {
        match &self.code {
            Code::TimeExpired => true,
            Code::Other(code) => code == "InvalidDateHeader" || code == "RequestTimeTooSkewed",
            _ => self.status == StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// Whether newer credentials may be accepted. Nobody documents the code
    /// for a token that has expired.
    pub(super) fn is_about_credentials(&self) -> bool {
        self.status == StatusCode::FORBIDDEN && self.code != Code::AccessDenied
    }
}

/// A request that did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum MnsError {
    /// MNS refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something answered that is not MNS, or what MNS said was cut short.
    #[error("no answer of MNS (status {}): {problem}; it begins {beginning:?}", status.as_u16())]
    Garbled {
        /// The HTTP status.
        status: StatusCode,
        /// What is wrong with it.
        problem: String,
        /// The first bytes, for people.
        beginning: String,
    },
    /// Nothing answered.
    #[error("{0}")]
    Unreachable(String),
    /// There is nothing to sign with.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// What helps against an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Trying again, with a growing pause.
    Patience,
    /// Somebody has to change something; until then it is tried now and then.
    Somebody,
}

impl MnsError {
    /// The code of MNS, where it is a refusal.
    pub fn code(&self) -> Option<&Code> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            _ => None,
        }
    }

    /// What helps.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Refused(refusal) => {
                let passes = refusal.status.is_server_error()
                    || refusal.status == StatusCode::TOO_MANY_REQUESTS
                    || refusal.code == Code::Throttled;
                if passes {
                    Remedy::Patience
                } else {
                    Remedy::Somebody
                }
            }
            Self::Garbled { .. } | Self::Unreachable(_) | Self::Credentials(_) => Remedy::Patience,
        }
    }

    /// What to do about it, where somebody has to do something.
    pub fn hint(&self) -> &'static str {
        match self.code() {
            Some(Code::QueueNotExist) => {
                "see that `queue` is spelt as at MNS and that `endpoint` is that of its region"
            }
            Some(Code::AccessDenied) => {
                "see that the key's account is that of the endpoint, and that its policy allows mns:BatchReceiveMessage, mns:DeleteMessage, mns:BatchDeleteMessage and mns:ChangeMessageVisibility on the queue"
            }
            Some(Code::SignatureDoesNotMatch) => "see that the secret belongs to the key id",
            Some(Code::InvalidAccessKeyId) => {
                "see that the key is enabled and its token has not expired"
            }
            Some(Code::TimeExpired) => "set this machine's clock",
            Some(Code::Throttled) => "raise the limit at MNS where this lasts",
            _ => match self {
                Self::Garbled { .. } => {
                    "see that `endpoint` is that of MNS, with no proxy that answers for it"
                }
                Self::Unreachable(_) => "see that `endpoint` can be reached from this machine",
                Self::Credentials(_) => "see that the credentials can be had",
                Self::Refused(_) => "see what MNS says about this code",
            },
        }
    }
}

/// `text` as far as it can stand in a line, cut to `bytes_max` bytes.
pub(super) fn printable(text: &str, bytes_max: usize) -> String {
    let mut kept = String::new();
    for c in text.chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > bytes_max {
            break;
        }
        kept.push(c);
    }
    kept
}
