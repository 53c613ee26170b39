//! What a command wrote: all of it is read, so that the command never waits
//! for us, and the end of it is kept.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// This much of each stream is kept. Of more than that it is the end, where
/// commands say what went wrong.
const KEPT_BYTES: usize = 4096;

/// How much is read at once: a pipe holds no more.
const READ_BYTES: usize = 64 << 10;

/// The end of one stream.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// The last [`KEPT_BYTES`], and up to [`READ_BYTES`] before them.
    end: Vec<u8>,
    /// How much there was.
    bytes: u64,
}

impl Tail {
    /// Reads `stream` to its end. What was read until then is kept when the
    /// future is dropped.
    pub(super) async fn read(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        loop {
            self.end.reserve(READ_BYTES);
            // A stream that breaks has ended.
            match stream.read_buf(&mut self.end).await {
                Ok(0) | Err(_) => return,
                Ok(count) => self.bytes += count as u64,
            }
            let surplus = self.end.len().saturating_sub(KEPT_BYTES);
            if surplus >= READ_BYTES {
                self.end.drain(..surplus);
            }
        }
    }

    /// What is kept, as text. Where something is missing, there is a note.
    pub(super) fn text(&self, name: &str, notes: &mut Vec<String>) -> String {
        let surplus = self.end.len().saturating_sub(KEPT_BYTES);
        let mut text = String::from_utf8_lossy(&self.end[surplus..]).into_owned();
        // A cut within a character, and bytes that are none, have made it longer.
        let surplus = text.ceil_char_boundary(text.len().saturating_sub(KEPT_BYTES));
        text.drain(..surplus);
        if self.bytes > KEPT_BYTES as u64 {
            let bytes = self.bytes;
            notes.push(format!(
                "of {bytes} bytes on {name} the last {KEPT_BYTES} are kept"
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn kept(stream: &[u8]) -> (String, Vec<String>) {
        let mut tail = Tail::default();
        tail.read(Some(stream)).await;
        let mut notes = Vec::new();
        let text = tail.text("stdout", &mut notes);
        assert!(tail.end.capacity() <= 4 * READ_BYTES, "memory is bounded");
        (text, notes)
    }

    #[tokio::test]
    async fn the_end_is_kept() {
        assert_eq!(kept(b"").await, (String::new(), vec![]));
        let all = "x".repeat(4096);
        assert_eq!(kept(all.as_bytes()).await, (all, vec![]));
        for length in [4097, 70_000, 200_000, 3_000_001] {
            let mut stream = vec![b'a'; length];
            stream[length - 4096..].fill(b'z');
            let note = format!("of {length} bytes on stdout the last 4096 are kept");
            assert_eq!(kept(&stream).await, ("z".repeat(4096), vec![note]));
        }
    }

    #[tokio::test]
    async fn what_is_no_text_stays_within_the_limit() {
        let (text, _) = kept(&[0xff; 10_000]).await;
        assert_eq!(text, "\u{fffd}".repeat(1365));
        let (text, _) = kept("ü".repeat(5000).as_bytes()).await;
        assert_eq!(text, "ü".repeat(2048));
        let (text, _) = kept(format!("{}x", "ü".repeat(5000)).as_bytes()).await;
        assert!(text.len() <= 4096 && text.ends_with("üx"), "{}", text.len());
    }
}
