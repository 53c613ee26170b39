//! Server-sent events, read piece by piece in bounded memory.

/// A longer line ends the reading: no event of the service is that long.
const LINE_BYTES_MAX: usize = 1 << 20;

/// One message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Its `event`; `message` where it names none.
    pub event: String,
    /// Its `data`.
    pub data: String,
}

/// A stream that holds what cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream of events holds a message of more than {LINE_BYTES_MAX} bytes")]
pub(super) struct TooLong;

/// Makes messages out of the pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// What came since the last line break.
    line: Vec<u8>,
    event: String,
    data: String,
    has_data: bool,
    after_return: bool,
}

impl Reader {
    /// Takes the next piece; answers the messages that it completes.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<Vec<Message>, TooLong> {
        let mut messages = Vec::new();
        for byte in piece {
            // A line ends with LF, CR, or both.
            let second_half = std::mem::take(&mut self.after_return) && *byte == b'\n';
            match byte {
                b'\n' if second_half => {}
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    messages.extend(self.take_line(&String::from_utf8_lossy(&line))?);
                }
                byte if self.line.len() < LINE_BYTES_MAX => self.line.push(*byte),
                _ => return Err(TooLong),
            }
        }
        Ok(messages)
    }

    fn take_line(&mut self, line: &str) -> Result<Option<Message>, TooLong> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let data = std::mem::take(&mut self.data);
            let complete = std::mem::take(&mut self.has_data);
            return Ok(complete.then(|| Message {
                event: if event.is_empty() {
                    "message".to_owned()
                } else {
                    event
                },
                data,
            }));
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => self.event = value.to_owned(),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
                if self.data.len() > LINE_BYTES_MAX {
                    return Err(TooLong);
                }
            }
            // Comments keep the connection alive; ids are in the data as well.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\nevent: event\nid: 1\ndata: {\"id\":1}\n\nevent: skipped\r\ndata: {\r\ndata:  \"events\":7}\r\n\r\n:\n\ndata: x\r\revent: event\n\n";

    fn messages() -> Vec<Message> {
        let message = |event: &str, data: &str| Message {
            event: event.to_owned(),
            data: data.to_owned(),
        };
        vec![
            message("event", "{\"id\":1}"),
            message("skipped", "{\n \"events\":7}"),
            message("message", "x"),
        ]
    }

    #[test]
    fn messages_are_the_same_however_they_are_cut() {
        for size in 1..STREAM.len() {
            let mut reader = Reader::default();
            let mut read = Vec::new();
            for piece in STREAM.as_bytes().chunks(size) {
                read.extend(reader.push(piece).unwrap());
            }
            assert_eq!(read, messages(), "in pieces of {size}");
        }
    }

    #[test]
    fn a_stream_without_end_of_line_takes_no_memory_without_end() {
        let mut reader = Reader::default();
        let piece = [b'x'; 4096];
        let refused = (0..1000).find(|_| reader.push(&piece).is_err());
        assert_eq!(refused, Some(LINE_BYTES_MAX / 4096));
        let mut reader = Reader::default();
        let refused =
            (0..10_000).find(|_| reader.push(b"data: 0123456789abcdef0123456789\n").is_err());
        assert!(refused.is_none());
        let refused =
            (0..40_000).find(|_| reader.push(b"data: 0123456789abcdef0123456789\n").is_err());
        assert!(refused.is_some());
    }
}
