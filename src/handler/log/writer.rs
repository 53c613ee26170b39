//! One thread per output, which writes what waits in as few calls as possible.
//!
//! A reader of stdout that stalls blocks this thread and nothing else: its
//! deliveries wait until their handler's `timeout` is over and are tried again.
//! A line whose delivery no longer waits is dropped, unless it is already in
//! the batch at work.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::LogOutput;
use super::sink::Sink;

/// Lines that wait for one output take at most this many bytes together;
/// further ones wait at their deliveries.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// What a waiting line takes beside its text. It also bounds the number of
/// lines that wait.
const LINE_OVERHEAD_BYTES: usize = 256;

/// Lines are joined up to this size before they are written. More would gain
/// nothing, and it is also what may come late after a reader stalled.
const BATCH_BYTES: usize = 64 << 10;

/// The outputs in use. `log` handlers with the same output share one thread,
/// so that their lines never mix.
#[derive(Debug, Default)]
pub struct Outputs(Mutex<HashMap<LogOutput, Weak<Writer>>>);

impl Outputs {
    /// The writer of `output`, opened now unless it is open already.
    ///
    /// # Errors
    /// Why the file cannot be opened, or no thread could be had.
    pub(super) fn writer(&self, output: &LogOutput) -> io::Result<Arc<Writer>> {
        let sink = Sink::open(output)?;
        let key = canonical(output);
        let mut writers = self.0.lock().expect("no panic happens under this lock");
        if let Some(writer) = writers.get(&key).and_then(Weak::upgrade) {
            return Ok(writer);
        }
        let writer = Arc::new(Writer::start(sink)?);
        writers.insert(key, Arc::downgrade(&writer));
        Ok(writer)
    }
}

/// One name for each output, however its path was written.
fn canonical(output: &LogOutput) -> LogOutput {
    match output {
        LogOutput::File(path) => {
            let path: PathBuf = path.canonicalize().unwrap_or_else(|_| path.clone());
            LogOutput::File(path)
        }
        other => other.clone(),
    }
}

/// A line that was not written.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum WriteError {
    /// What the operating system said, with the output.
    #[error("{0}")]
    Os(Arc<str>),
    /// The thread is gone, which only a panic can do.
    #[error("the log writer has ended")]
    Gone,
}

/// The handle of a writing thread; the thread ends when the last handle drops.
#[derive(Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
}

enum Message {
    Line(Line),
    Reopen,
}

struct Line {
    text: Vec<u8>,
    written: oneshot::Sender<Result<(), WriteError>>,
    /// Gives the line's share of the queue back when it is dropped.
    _room: OwnedSemaphorePermit,
}

impl Writer {
    fn start(sink: Sink) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel();
        thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || run(sink, &waiting))?;
        Ok(Self {
            queue,
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
        })
    }

    /// Writes `text`, which ends with a line feed, and resolves after the write.
    ///
    /// Dropping the future withdraws the line where it is not being written yet.
    ///
    /// # Errors
    /// [`WriteError`]; part of the line may stand in the output then.
    pub(super) async fn write(&self, text: Vec<u8>) -> Result<(), WriteError> {
        let bytes = (text.len() + LINE_OVERHEAD_BYTES).min(QUEUE_BYTES_MAX);
        let bytes = u32::try_from(bytes).expect("QUEUE_BYTES_MAX fits");
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        let (written, result) = oneshot::channel();
        let line = Line {
            text,
            written,
            _room: room.map_err(|_| WriteError::Gone)?,
        };
        self.queue
            .send(Message::Line(line))
            .map_err(|_| WriteError::Gone)?;
        result.await.map_err(|_| WriteError::Gone)?
    }

    /// Opens the file anew before the next line.
    pub(super) fn reopen(&self) {
        // A thread that is gone is reported by the next line.
        let _ = self.queue.send(Message::Reopen);
    }
}

/// The thread: waits for a line, takes what else waits, writes it at once.
fn run(mut sink: Sink, waiting: &mpsc::Receiver<Message>) {
    let mut batch = Batch::default();
    while let Ok(first) = waiting.recv() {
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match message {
                Message::Line(line) => batch.push(line),
                Message::Reopen => {
                    // What was queued before belongs to the old file.
                    batch.write(&mut sink);
                    sink.reopen();
                }
            }
            if batch.text.len() < BATCH_BYTES {
                next = waiting.try_recv().ok();
            }
        }
        batch.write(&mut sink);
    }
}

/// Lines on their way into one write.
#[derive(Default)]
struct Batch {
    text: Vec<u8>,
    /// Each line with the position of its end in `text`.
    lines: Vec<(usize, Line)>,
}

impl Batch {
    fn push(&mut self, mut line: Line) {
        if line.written.is_closed() {
            return;
        }
        self.text.append(&mut line.text);
        self.lines.push((self.text.len(), line));
    }

    /// Writes the batch and answers every line in it.
    fn write(&mut self, sink: &mut Sink) {
        if self.lines.is_empty() {
            return;
        }
        let (written, error) = sink.write(&self.text);
        let error = error.map(|error| WriteError::Os(format!("{}: {error}", sink.name()).into()));
        for (end, line) in self.lines.drain(..) {
            let result = match &error {
                Some(error) if end > written => Err(error.clone()),
                _ => Ok(()),
            };
            // Nobody waits any more where the timeout was faster.
            let _ = line.written.send(result);
        }
        self.text.clear();
        self.text.shrink_to(2 * BATCH_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::OwnedFd;
    use std::time::{Duration, Instant};

    use super::*;

    fn pipe() -> (io::PipeReader, Writer) {
        let (reader, writer) = io::pipe().unwrap();
        let sink = Sink::over(std::fs::File::from(OwnedFd::from(writer)));
        (reader, Writer::start(sink).unwrap())
    }

    fn patience() -> Duration {
        Duration::from_secs(20)
    }

    #[tokio::test]
    async fn many_lines_at_once_come_out_whole_and_are_all_answered() {
        let (mut reader, writer) = pipe();
        let writer = Arc::new(writer);
        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        let lines = (0..2000).map(|n| {
            let writer = Arc::clone(&writer);
            async move { writer.write(format!("line {n}\n").into_bytes()).await }
        });
        for result in futures_util::future::join_all(lines).await {
            result.unwrap();
        }
        drop(writer);
        let text = reading.join().unwrap();
        let mut numbers: Vec<u32> = text
            .lines()
            .map(|line| line.strip_prefix("line ").unwrap().parse().unwrap())
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..2000).collect::<Vec<_>>());
    }

    // The reader blocks its thread, so the write needs another one.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_stalled_reader_blocks_only_its_own_lines_and_withdrawn_ones_never_appear() {
        let (mut reader, writer) = pipe();
        let full = vec![b'x'; 1 << 20]
            .into_iter()
            .chain([b'\n'])
            .collect::<Vec<_>>();
        let writer = Arc::new(writer);
        let big = tokio::spawn({
            let writer = Arc::clone(&writer);
            async move { writer.write(full).await }
        });
        // The first byte shows that the thread is inside its write.
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        let withdrawn = writer.write(b"withdrawn\n".to_vec());
        let late = tokio::time::timeout(Duration::from_millis(50), withdrawn).await;
        assert!(late.is_err(), "nobody reads, so nothing can be written");
        let kept = tokio::spawn({
            let writer = Arc::clone(&writer);
            async move { writer.write(b"kept\n".to_vec()).await }
        });
        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        big.await.unwrap().unwrap();
        kept.await.unwrap().unwrap();
        drop(writer);
        let text = reading.join().unwrap();
        assert!(text.ends_with("x\nkept\n"), "{:?}", &text[1 << 20..]);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes() {
        let (reader, writer) = pipe();
        let writer = Arc::new(writer);
        let line = {
            let mut line = vec![b'x'; 1 << 20];
            line.push(b'\n');
            line
        };
        let writes: Vec<_> = (0..64)
            .map(|_| {
                let (writer, line) = (Arc::clone(&writer), line.clone());
                tokio::spawn(async move { writer.write(line).await })
            })
            .collect();
        let deadline = Instant::now() + patience();
        while writer.room.available_permits() > 1 << 20 {
            assert!(Instant::now() < deadline, "the queue never filled");
            tokio::task::yield_now().await;
        }
        drop(reader);
        let mut failed = 0;
        for write in writes {
            let error = write.await.unwrap().unwrap_err();
            assert!(error.to_string().contains("Broken pipe"), "{error}");
            failed += 1;
        }
        assert_eq!(failed, 64);
        // The thread gives the room back after it answered.
        while writer.room.available_permits() < QUEUE_BYTES_MAX {
            assert!(Instant::now() < deadline, "room got lost");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn after_a_torn_line_the_next_one_starts_afresh() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.log");
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(b"{\"torn\":").unwrap();
        drop(file);
        let outputs = Outputs::default();
        let writer = outputs.writer(&LogOutput::File(path.clone())).unwrap();
        writer.write(b"{}\n".to_vec()).await.unwrap();
        writer.write(b"{}\n".to_vec()).await.unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"torn\":\n{}\n{}\n"
        );
    }

    #[tokio::test]
    async fn a_rotated_file_is_let_go_of_on_reopen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.log");
        let rotated = folder.path().join("events.log.1");
        let outputs = Outputs::default();
        let writer = outputs.writer(&LogOutput::File(path.clone())).unwrap();
        writer.write(b"one\n".to_vec()).await.unwrap();
        std::fs::rename(&path, &rotated).unwrap();
        writer.write(b"two\n".to_vec()).await.unwrap();
        writer.reopen();
        writer.write(b"three\n".to_vec()).await.unwrap();
        assert_eq!(std::fs::read_to_string(&rotated).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn one_file_has_one_writer_however_its_path_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = Outputs::default();
        let straight = LogOutput::File(folder.path().join("events.log"));
        let winding = LogOutput::File(folder.path().join(".").join("events.log"));
        let first = outputs.writer(&straight).unwrap();
        let second = outputs.writer(&winding).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let other = LogOutput::File(folder.path().join("other.log"));
        assert!(!Arc::ptr_eq(&first, &outputs.writer(&other).unwrap()));
    }
}
