//! How far a peer has come with a request's head, told from the bytes alone.
//!
//! hyper has no timer for the detection of the protocol, none for HTTP/2
//! heads, and none that tells the wait between two requests from a head, so
//! the accept loop keeps its own. The borders of HTTP/1 requests and HTTP/2
//! frames are followed for it; nothing is decoded.

use super::messages::Messages;

/// What a client with prior knowledge of HTTP/2 sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEADER_BYTES: usize = 9;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// What some bytes told of heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heads {
    /// Within them a head ended, or what might have become one did not.
    pub(super) ended: bool,
    /// After them a head has begun and not ended.
    pub(super) open: bool,
}

/// Follows the bytes that a peer sends.
#[derive(Debug)]
pub(super) enum HeadTracker {
    /// This many bytes of the HTTP/2 preface came, and nothing else.
    Preface(usize),
    Http1(Messages),
    Http2(Frames),
}

impl HeadTracker {
    pub(super) fn new() -> Self {
        Self::Preface(0)
    }

    /// Takes note of `bytes`.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Heads {
        match self {
            Self::Preface(seen) => {
                let seen = *seen;
                self.feed_first(seen, bytes)
            }
            Self::Http1(messages) => messages.feed(bytes),
            Self::Http2(frames) => frames.feed(bytes),
        }
    }

    fn feed_first(&mut self, seen: usize, bytes: &[u8]) -> Heads {
        let wanted = &PREFACE[seen..];
        let length = wanted.len().min(bytes.len());
        if wanted[..length] != bytes[..length] {
            let mut messages = Messages::default();
            messages.feed(&PREFACE[..seen]);
            let heads = messages.feed(bytes);
            *self = Self::Http1(messages);
            heads
        } else if length < wanted.len() {
            *self = Self::Preface(seen + length);
            Heads {
                ended: false,
                open: true,
            }
        } else {
            let mut frames = Frames::default();
            let open = frames.feed(&bytes[length..]).open;
            *self = Self::Http2(frames);
            Heads { ended: true, open }
        }
    }
}

/// Follows the borders of HTTP/2 frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; FRAME_HEADER_BYTES],
    header_filled: usize,
    payload_left: usize,
    /// HEADERS came without END_HEADERS: CONTINUATION has to follow.
    head_open: bool,
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8]) -> Heads {
        let mut ended = false;
        loop {
            if self.header_filled < FRAME_HEADER_BYTES {
                let take = bytes.len().min(FRAME_HEADER_BYTES - self.header_filled);
                let (now, rest) = bytes.split_at(take);
                self.header[self.header_filled..][..take].copy_from_slice(now);
                self.header_filled += take;
                bytes = rest;
                if self.header_filled < FRAME_HEADER_BYTES {
                    break;
                }
                let [high, middle, low, ..] = self.header;
                self.payload_left =
                    usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            }
            let take = bytes.len().min(self.payload_left);
            self.payload_left -= take;
            bytes = &bytes[take..];
            if self.payload_left > 0 {
                break;
            }
            self.end_frame();
            ended |= !self.head_open;
        }
        Heads {
            ended,
            open: self.head_unfinished(),
        }
    }

    fn end_frame(&mut self) {
        if self.carries_head() {
            self.head_open = self.header[4] & END_HEADERS == 0;
        }
        self.header_filled = 0;
    }

    fn carries_head(&self) -> bool {
        matches!(self.header[3], HEADERS | CONTINUATION)
    }

    /// A frame whose header is cut short may yet become a head.
    fn head_unfinished(&self) -> bool {
        let mid_frame_header = (1..FRAME_HEADER_BYTES).contains(&self.header_filled);
        let mid_head = self.header_filled == FRAME_HEADER_BYTES && self.carries_head();
        self.head_open || mid_frame_header || mid_head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend(payload);
        bytes
    }

    fn http2() -> HeadTracker {
        let mut tracker = HeadTracker::new();
        assert!(!tracker.feed(PREFACE).open);
        tracker
    }

    #[test]
    fn the_protocol_is_told_from_the_first_bytes() {
        let mut tracker = HeadTracker::new();
        assert!(tracker.feed(b"P").open);
        assert!(matches!(tracker, HeadTracker::Preface(1)));
        assert!(tracker.feed(b"OST / HTTP/1.1\r\n").open);
        assert!(matches!(tracker, HeadTracker::Http1(_)));
        assert!(!tracker.feed(b"\r\n").open);

        let mut tracker = HeadTracker::new();
        for byte in PREFACE {
            assert!(matches!(tracker, HeadTracker::Preface(_)));
            tracker.feed(std::slice::from_ref(byte));
        }
        assert!(matches!(tracker, HeadTracker::Http2(_)));
    }

    #[test]
    fn pings_and_data_are_no_heads() {
        let mut tracker = http2();
        assert!(!tracker.feed(&frame(0x6, 0, &[0; 8])).open);
        assert!(!tracker.feed(&frame(0x4, 0, &[])).open);
        let data = frame(0x0, 0, &[7; 100]);
        assert!(!tracker.feed(&data[..50]).open, "inside of DATA");
        assert!(!tracker.feed(&data[50..]).open);
    }

    #[test]
    fn a_head_is_open_until_end_headers() {
        let mut tracker = http2();
        let headers = frame(HEADERS, 0, &[1; 20]);
        let open = Heads {
            ended: false,
            open: true,
        };
        assert_eq!(tracker.feed(&headers[..3]), open, "half a frame header");
        assert_eq!(tracker.feed(&headers[3..15]), open, "half a payload");
        assert_eq!(tracker.feed(&headers[15..]), open, "no END_HEADERS");
        assert_eq!(tracker.feed(&frame(CONTINUATION, 0, &[])), open);
        let last = tracker.feed(&frame(CONTINUATION, END_HEADERS, &[1]));
        assert!(last.ended && !last.open);
    }

    /// A busy peer's pieces may all end in the middle of a head; each is
    /// another one.
    #[test]
    fn heads_that_end_are_told_from_one_that_does_not() {
        let mut tracker = http2();
        let headers = frame(HEADERS, END_HEADERS, &[1; 20]);
        tracker.feed(&headers[..15]);
        for _ in 0..3 {
            let next = tracker.feed(&[&headers[15..], &headers[..15]].concat());
            assert!(next.ended && next.open);
        }
    }

    #[test]
    fn any_cut_gives_the_same_end() {
        let mut bytes = frame(0x6, 0, &[0; 8]);
        bytes.extend(frame(HEADERS, END_HEADERS, &[1; 300]));
        bytes.extend(frame(0x0, 1, &[2; 40]));
        for cut in 0..bytes.len() {
            let mut tracker = http2();
            tracker.feed(&bytes[..cut]);
            assert!(!tracker.feed(&bytes[cut..]).open, "cut at {cut}");
        }
    }
}
