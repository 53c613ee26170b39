//! Where the requests of an HTTP/1 connection begin and end, told from the
//! bytes alone.
//!
//! A request that is sent before the one before it was answered may come in
//! one piece with that one's end, and hyper does not say that it holds a part
//! of a head. What is refused is hyper's to say: a request it does not accept
//! ends its connection, whatever is made of its bytes here.

use super::frames::Heads;

/// How much of a line is looked at. The lines that matter are shorter.
const LINE_BYTES_MAX: usize = 64;

/// Follows the borders of HTTP/1 requests.
#[derive(Debug, Default)]
pub(super) struct Messages {
    part: Part,
    line: Line,
    /// Bytes of a body or a chunk that are still to come.
    skip: u64,
    body: BodyEnd,
    /// Whether the head that is being read holds more than empty lines.
    begun: bool,
}

/// What the line that is being read belongs to.
#[derive(Debug, Default)]
enum Part {
    #[default]
    Head,
    ChunkSize,
    Trailer,
}

/// How the head that is being read says that its body ends.
#[derive(Debug, Default, Clone, Copy)]
enum BodyEnd {
    #[default]
    None,
    After(u64),
    Chunked,
}

impl Messages {
    /// Takes note of `bytes`.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Heads {
        let mut ended = false;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped =
                    usize::try_from(self.skip).map_or(bytes.len(), |n| n.min(bytes.len()));
                self.skip -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.line.push(bytes);
                break;
            };
            self.line.push(&bytes[..end]);
            bytes = &bytes[end + 1..];
            ended |= self.end_line();
        }
        Heads {
            ended,
            open: self.head_open(),
        }
    }

    fn head_open(&self) -> bool {
        let in_head = matches!(self.part, Part::Head) && self.skip == 0;
        in_head && (self.begun || !self.line.is_empty())
    }

    /// Takes the line that has just ended; says whether a head ended with it.
    fn end_line(&mut self) -> bool {
        let line = std::mem::take(&mut self.line);
        match self.part {
            Part::Head => return self.end_head_line(&line),
            Part::ChunkSize => match line.chunk_size() {
                0 => self.part = Part::Trailer,
                // The line end after the data is skipped with it.
                size => self.skip = size.saturating_add(2),
            },
            Part::Trailer if line.is_empty() => self.part = Part::Head,
            Part::Trailer => {}
        }
        false
    }

    fn end_head_line(&mut self, line: &Line) -> bool {
        if !line.is_empty() {
            self.begun = true;
            match line.body_end() {
                BodyEnd::None => {}
                BodyEnd::After(_) if matches!(self.body, BodyEnd::Chunked) => {}
                end => self.body = end,
            }
            return false;
        }
        match std::mem::take(&mut self.body) {
            BodyEnd::None => {}
            BodyEnd::After(length) => self.skip = length,
            BodyEnd::Chunked => self.part = Part::ChunkSize,
        }
        std::mem::take(&mut self.begun)
    }
}

/// The beginning of a line, as far as it has come.
#[derive(Debug)]
struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            bytes: [0; LINE_BYTES_MAX],
            length: 0,
        }
    }
}

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        let take = bytes.len().min(LINE_BYTES_MAX - self.length);
        self.bytes[self.length..][..take].copy_from_slice(&bytes[..take]);
        self.length += take;
    }

    fn text(&self) -> &[u8] {
        self.bytes[..self.length].trim_ascii_end()
    }

    fn is_empty(&self) -> bool {
        self.text().is_empty()
    }

    /// What this field says of the body's end.
    fn body_end(&self) -> BodyEnd {
        let text = self.text();
        let Some(colon) = text.iter().position(|byte| *byte == b':') else {
            return BodyEnd::None;
        };
        let (name, value) = (&text[..colon], &text[colon + 1..]);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return BodyEnd::Chunked;
        }
        if name.eq_ignore_ascii_case(b"content-length")
            && let Ok(value) = std::str::from_utf8(value)
            && let Ok(length) = value.trim().parse()
        {
            return BodyEnd::After(length);
        }
        BodyEnd::None
    }

    /// The size of the chunk that this line announces; 0 where it has none.
    fn chunk_size(&self) -> u64 {
        let text = self.text();
        let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit());
        let digits = &text[..digits.count()];
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        u64::from_str_radix(digits, 16).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const LENGTH: &str = "POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n{\"a\":\n\n1}";
    const CHUNKED: &str = "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;x=\"y\"\r\na\n\n\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n";
    const BARE: &str = "GET / HTTP/1.1\nHost: x\n\n";

    const CLOSED: Heads = Heads {
        ended: true,
        open: false,
    };

    #[test]
    fn after_a_whole_request_no_head_is_open() {
        for request in [GET, LENGTH, CHUNKED, BARE] {
            let mut messages = Messages::default();
            for _ in 0..3 {
                assert_eq!(messages.feed(request.as_bytes()), CLOSED, "{request}");
                let empty = messages.feed(b"\r\n\r\n");
                assert!(!empty.open && !empty.ended, "empty lines begin nothing");
            }
        }
    }

    #[test]
    fn a_head_that_begins_in_the_piece_of_another_is_open() {
        for request in [GET, LENGTH, CHUNKED, BARE] {
            for part in ["P", "POST / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nX: y\r\n"] {
                let mut messages = Messages::default();
                let heads = messages.feed(format!("{request}{request}{part}").as_bytes());
                assert!(heads.ended && heads.open, "{request}{part}");
                let more = messages.feed(b"Z: z\r\n");
                assert!(!more.ended && more.open, "{request}{part}");
                assert_eq!(messages.feed(b"\r\n"), CLOSED, "{request}{part}");
            }
        }
    }

    #[test]
    fn bodies_are_no_heads() {
        let mut messages = Messages::default();
        let (head, body) = LENGTH.split_at(LENGTH.len() - 9);
        assert_eq!(messages.feed(head.as_bytes()), CLOSED);
        for byte in body.as_bytes() {
            let heads = messages.feed(&[*byte]);
            assert!(!heads.ended && !heads.open);
        }
        assert!(messages.feed(b"G").open);
    }

    #[test]
    fn any_cut_gives_the_same_end() {
        let bytes = [LENGTH, CHUNKED, GET, CHUNKED, "POST"].concat();
        for cut in 0..=bytes.len() {
            let mut messages = Messages::default();
            messages.feed(&bytes.as_bytes()[..cut]);
            messages.feed(&bytes.as_bytes()[cut..]);
            assert!(messages.head_open(), "cut at {cut}");
            let rest = messages.feed(b" / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx");
            assert_eq!(rest, CLOSED, "cut at {cut}");
        }
    }

    #[test]
    fn no_number_is_too_large() {
        for head in [
            "POST / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\nx",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        ] {
            assert_eq!(Messages::default().feed(head.as_bytes()), CLOSED);
        }
    }
}
