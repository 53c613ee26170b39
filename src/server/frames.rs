//! How far a peer has come with a request's head, told from the bytes alone.
//!
//! hyper has no timer for the detection of the protocol and none for HTTP/2
//! heads, so the accept loop keeps its own. For HTTP/1 any byte between two
//! requests begins a head. HTTP/2 has frames that are no part of one (PING,
//! SETTINGS, WINDOW_UPDATE), so their borders are followed here; nothing is
//! decoded.

/// What a client with prior knowledge of HTTP/2 sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEADER_BYTES: usize = 9;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// The protocol of a connection, as far as its bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Everything so far is a part of the HTTP/2 preface, or nothing came.
    Unknown,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Follows the bytes that a peer sends.
#[derive(Debug)]
pub(super) struct HeadTracker {
    protocol: Protocol,
    /// How much of the preface has come.
    preface: usize,
    frames: Frames,
}

impl HeadTracker {
    pub(super) fn new() -> Self {
        Self {
            protocol: Protocol::Unknown,
            preface: 0,
            frames: Frames::default(),
        }
    }

    /// The protocol, as far as it is known.
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Takes note of `bytes` and says whether a head has begun and not ended.
    /// For HTTP/1 that is always so here: where heads end is hyper's to say.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> bool {
        let rest = match self.protocol {
            Protocol::Unknown => self.feed_preface(bytes),
            Protocol::Http1 | Protocol::Http2 => bytes,
        };
        match self.protocol {
            Protocol::Unknown | Protocol::Http1 => true,
            Protocol::Http2 => self.frames.feed(rest),
        }
    }

    fn feed_preface<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let wanted = &PREFACE[self.preface..];
        let length = wanted.len().min(bytes.len());
        if wanted[..length] != bytes[..length] {
            self.protocol = Protocol::Http1;
            return bytes;
        }
        self.preface += length;
        if self.preface == PREFACE.len() {
            self.protocol = Protocol::Http2;
        }
        &bytes[length..]
    }
}

/// Follows the borders of HTTP/2 frames.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; FRAME_HEADER_BYTES],
    header_filled: usize,
    payload_left: usize,
    /// HEADERS came without END_HEADERS: CONTINUATION has to follow.
    head_open: bool,
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8]) -> bool {
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
        }
        self.head_unfinished()
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
        assert!(!tracker.feed(PREFACE));
        tracker
    }

    #[test]
    fn the_protocol_is_told_from_the_first_bytes() {
        let mut tracker = HeadTracker::new();
        assert!(tracker.feed(b"P"));
        assert_eq!(tracker.protocol(), Protocol::Unknown);
        assert!(tracker.feed(b"OST / HTTP/1.1\r\n"));
        assert_eq!(tracker.protocol(), Protocol::Http1);

        let mut tracker = HeadTracker::new();
        for byte in PREFACE {
            assert_eq!(tracker.protocol(), Protocol::Unknown);
            tracker.feed(std::slice::from_ref(byte));
        }
        assert_eq!(tracker.protocol(), Protocol::Http2);
    }

    #[test]
    fn pings_and_data_are_no_heads() {
        let mut tracker = http2();
        assert!(!tracker.feed(&frame(0x6, 0, &[0; 8])));
        assert!(!tracker.feed(&frame(0x4, 0, &[])));
        let data = frame(0x0, 0, &[7; 100]);
        assert!(!tracker.feed(&data[..50]), "inside of DATA");
        assert!(!tracker.feed(&data[50..]));
    }

    #[test]
    fn a_head_is_open_until_end_headers() {
        let mut tracker = http2();
        let headers = frame(HEADERS, 0, &[1; 20]);
        assert!(tracker.feed(&headers[..3]), "half a frame header");
        assert!(tracker.feed(&headers[3..15]), "half a payload");
        assert!(tracker.feed(&headers[15..]), "no END_HEADERS");
        assert!(tracker.feed(&frame(CONTINUATION, 0, &[])));
        assert!(!tracker.feed(&frame(CONTINUATION, END_HEADERS, &[1])));
    }

    #[test]
    fn any_cut_gives_the_same_end() {
        let mut bytes = frame(0x6, 0, &[0; 8]);
        bytes.extend(frame(HEADERS, END_HEADERS, &[1; 300]));
        bytes.extend(frame(0x0, 1, &[2; 40]));
        for cut in 0..bytes.len() {
            let mut tracker = http2();
            tracker.feed(&bytes[..cut]);
            assert!(!tracker.feed(&bytes[cut..]), "cut at {cut}");
        }
    }
}
