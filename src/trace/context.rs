//! To which trace an event belongs: pure, and the same in every process.

use opentelemetry::trace::{SpanId, TraceId};
use sha2::{Digest, Sha256};

use crate::delivery::Delivery;
use crate::event::EventId;
use crate::request::KeptHead;

/// Random bits at the end of a trace id, as W3C Trace Context counts them. Of
/// an event's id, a UUIDv7, these are random as well; those before are not.
const RANDOM_BITS: u32 = 56;

/// The share of traces that is exported. The same trace is always in, or
/// always out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRatio {
    /// Trace ids whose random bits are below this are left out.
    threshold: u64,
}

impl SampleRatio {
    /// The share `ratio`, from 0 (none) to 1 (all); what is beyond counts as
    /// the nearest of both.
    pub fn new(ratio: f64) -> Self {
        let all = (1_u64 << RANDOM_BITS) as f64;
        Self {
            threshold: ((1.0 - ratio.clamp(0.0, 1.0)) * all) as u64,
        }
    }

    fn takes(self, trace: TraceId) -> bool {
        let bits = u128::from_be_bytes(trace.to_bytes()) & ((1 << RANDOM_BITS) - 1);
        bits >= u128::from(self.threshold)
    }
}

/// What a request's `traceparent` says: whose trace it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    trace: TraceId,
    span: SpanId,
    sampled: bool,
}

impl Caller {
    /// The caller that a kept head names; `None` where it names none, or none
    /// that the W3C's rules accept.
    pub fn of(head: &KeptHead) -> Option<Self> {
        Self::text_of(head).and_then(Self::parse)
    }

    /// The same as text, to be passed on as it came.
    pub fn valid_text_of(head: &KeptHead) -> Option<&str> {
        Self::text_of(head).filter(|text| Self::parse(text).is_some())
    }

    fn text_of(head: &KeptHead) -> Option<&str> {
        let mut headers = head.headers.iter();
        let (_, value) = headers.find(|(name, _)| name == "traceparent")?;
        Some(value)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version = u8::try_from(hex(version, 2)?).ok()?;
        // Later versions may add parts; what stands before them stays.
        if version == u8::MAX || version == 0 && parts.next().is_some() {
            return None;
        }
        let trace = TraceId::from_bytes(hex(trace, 32)?.to_be_bytes());
        let span = u64::try_from(hex(span, 16)?).ok()?;
        let span = SpanId::from_bytes(span.to_be_bytes());
        let valid = trace != TraceId::INVALID && span != SpanId::INVALID;
        valid.then_some(Self {
            trace,
            span,
            sampled: hex(flags, 2)? & 1 == 1,
        })
    }
}

/// Exactly `digits` lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
    if text.len() != digits || !text.bytes().all(lower) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

/// Where the spans of an event belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTrace {
    /// The trace.
    pub trace: TraceId,
    /// The span of the request that brought the event.
    pub root: SpanId,
    /// The span of whoever called us, where it said so.
    pub caller: Option<SpanId>,
    /// Whether its spans are exported: as the caller decided, else by the
    /// configured ratio.
    pub sampled: bool,
}

impl EventTrace {
    /// The trace of the event with this id, whose request named `caller`.
    pub fn of(event: EventId, caller: Option<Caller>, ratio: SampleRatio) -> Self {
        let (_, root) = event.0.as_u64_pair();
        let own = TraceId::from_bytes(*event.0.as_bytes());
        Self {
            trace: caller.map_or(own, |caller| caller.trace),
            root: SpanId::from_bytes(root.to_be_bytes()),
            caller: caller.map(|caller| caller.span),
            sampled: caller.map_or_else(|| ratio.takes(own), |caller| caller.sampled),
        }
    }

    /// The span of an attempt.
    pub fn attempt(&self, delivery: &Delivery) -> SpanId {
        let digest = Sha256::new()
            .chain_update(delivery.event.id.0.as_bytes())
            .chain_update(delivery.attempt.to_be_bytes())
            .chain_update(delivery.handler.as_str())
            .finalize();
        let first = digest.first_chunk().copied().unwrap_or_default();
        not_zero(u64::from_be_bytes(first))
    }

    /// The header field that tells another service which span it is called by.
    pub fn traceparent(&self, span: SpanId) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{}-{span}-{flags:02x}", self.trace)
    }
}

/// A span that nobody has to find again.
pub(super) fn random_span() -> SpanId {
    not_zero(rand::random())
}

/// Zero means "no span".
fn not_zero(id: u64) -> SpanId {
    SpanId::from_bytes(id.max(1).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use uuid::Builder;

    use super::*;
    use crate::handler::testing::delivery;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn head(traceparent: &str) -> KeptHead {
        KeptHead {
            headers: vec![("traceparent".to_owned(), traceparent.to_owned())],
            ..KeptHead::default()
        }
    }

    #[test]
    fn callers_are_read_by_the_rules_of_the_w3c() {
        let sampled = Caller::of(&head(&format!("00-{TRACE}-{SPAN}-01"))).unwrap();
        assert_eq!(sampled.trace.to_string(), TRACE);
        assert_eq!(sampled.span.to_string(), SPAN);
        assert!(sampled.sampled);
        assert!(
            !Caller::of(&head(&format!("00-{TRACE}-{SPAN}-02")))
                .unwrap()
                .sampled
        );
        // A later version, with more behind it.
        assert!(Caller::of(&head(&format!("cc-{TRACE}-{SPAN}-01-what"))).is_some());
        for bad in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-what"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!(" 00-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(Caller::of(&head(&bad)), None, "{bad}");
            assert_eq!(Caller::valid_text_of(&head(&bad)), None, "{bad}");
        }
        assert_eq!(Caller::of(&KeptHead::default()), None);
    }

    #[test]
    fn the_ids_follow_from_event_handler_and_attempt() {
        let mut delivery = delivery(b"{}");
        let trace = EventTrace::of(delivery.event.id, None, SampleRatio::new(1.0));
        let id = delivery.event.id.to_string().replace('-', "");
        assert_eq!(trace.trace.to_string(), id);
        assert_eq!(trace.root.to_string(), id[16..]);
        assert_eq!(trace.caller, None);
        let first = trace.attempt(&delivery);
        assert_eq!(first, trace.attempt(&delivery));
        assert_eq!(trace.traceparent(first), format!("00-{id}-{first}-01"));
        delivery.attempt += 1;
        assert_ne!(first, trace.attempt(&delivery));
        assert_ne!(first, trace.root);
    }

    #[test]
    fn a_caller_decides_whose_trace_it_is_and_whether_it_is_kept() {
        let delivery = delivery(b"{}");
        for (flags, sampled, ratio) in [("01", true, 0.0), ("00", false, 1.0)] {
            let caller = Caller::of(&head(&format!("00-{TRACE}-{SPAN}-{flags}")));
            let trace = EventTrace::of(delivery.event.id, caller, SampleRatio::new(ratio));
            assert_eq!(trace.trace.to_string(), TRACE);
            assert_eq!(trace.caller.unwrap().to_string(), SPAN);
            assert_eq!(trace.sampled, sampled);
            let passed_on = trace.traceparent(trace.attempt(&delivery));
            assert!(passed_on.ends_with(flags), "{passed_on}");
        }
    }

    #[test]
    fn a_ratio_takes_its_share_of_the_events() {
        for (ratio, range) in [
            (0.0, 0..=0),
            (0.25, 2300..=2700),
            (0.5, 4750..=5250),
            (1.0, 10_000..=10_000),
        ] {
            let ratio = SampleRatio::new(ratio);
            // Of one millisecond, as the store makes them.
            let id = || Builder::from_unix_timestamp_millis(1, &rand::random()).into_uuid();
            let taken = (0..10_000)
                .filter(|_| EventTrace::of(EventId(id()), None, ratio).sampled)
                .count();
            assert!(range.contains(&taken), "{taken} of {ratio:?}");
        }
    }
}
