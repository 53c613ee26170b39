//! An output at the level of the operating system: short writes, signals,
//! torn lines, and files that somebody rotates away.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};

use super::LogOutput;

/// Where a writing thread writes.
#[derive(Debug)]
pub(super) struct Sink {
    output: LogOutput,
    file: File,
    /// Whether the next byte begins a line.
    at_line_start: bool,
}

impl Sink {
    /// Opens `output`; a file is made where there is none, readable by its
    /// owner only.
    pub(super) fn open(output: &LogOutput) -> io::Result<Self> {
        let (file, at_line_start) = match output {
            LogOutput::Stdout => (duplicate(io::stdout())?, true),
            LogOutput::Stderr => (duplicate(io::stderr())?, true),
            LogOutput::File(path) => open_file(path)?,
        };
        Ok(Self {
            output: output.clone(),
            file,
            at_line_start,
        })
    }

    /// A sink over an open file.
    #[cfg(test)]
    pub(super) fn over(file: File) -> Self {
        Self {
            output: LogOutput::File("a test".into()),
            file,
            at_line_start: true,
        }
    }

    /// The output as error messages name it.
    pub(super) fn name(&self) -> String {
        self.output.to_string()
    }

    /// Writes whole lines and answers how many bytes of them went out, with
    /// the error that stopped it.
    ///
    /// Where an earlier error left half a line behind, a line feed is written
    /// first, so that no later line is spoilt.
    pub(super) fn write(&mut self, lines: &[u8]) -> (usize, Option<io::Error>) {
        // The service's own log may go to the same place. Its lock keeps the
        // two apart: a pipe splits writes over 4 KiB between its writers.
        let _stdout = (self.output == LogOutput::Stdout).then(|| io::stdout().lock());
        let _stderr = (self.output == LogOutput::Stderr).then(|| io::stderr().lock());
        if !self.at_line_start {
            let (_, error) = write_counted(&self.file, b"\n");
            if error.is_some() {
                return (0, error);
            }
            self.at_line_start = true;
        }
        let (written, error) = write_counted(&self.file, lines);
        if let Some(last) = lines[..written].last() {
            self.at_line_start = *last == b'\n';
        }
        (written, error)
    }

    /// Lets go of a file that was rotated away and opens the one of its name.
    /// Where that fails the old one stays in use, with a warning.
    pub(super) fn reopen(&mut self) {
        let LogOutput::File(path) = &self.output else {
            return;
        };
        match open_file(path) {
            Ok((file, at_line_start)) => {
                self.file = file;
                self.at_line_start = at_line_start;
            }
            Err(error) => tracing::warn!(
                path = %path.display(),
                %error,
                "cannot reopen the file of a log handler; its lines still go to the old one"
            ),
        }
    }
}

/// A descriptor of our own, so that what is written is what the operating
/// system took, without the standard library's buffer in between.
fn duplicate(stream: impl std::os::fd::AsFd) -> io::Result<File> {
    Ok(File::from(stream.as_fd().try_clone_to_owned()?))
}

/// Opens for append, and looks whether the last line there is whole: a process
/// that was killed may have left half a line.
fn open_file(path: &Path) -> io::Result<(File, bool)> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        // Opening a named pipe that nobody reads fails instead of hanging.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    let at_line_start =
        !metadata.is_file() || metadata.len() == 0 || last_byte(path).is_none_or(|b| b == b'\n');
    Ok((file, at_line_start))
}

fn last_byte(path: &Path) -> Option<u8> {
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::End(-1)).ok()?;
    let mut byte = [0];
    file.read_exact(&mut byte).ok()?;
    Some(byte[0])
}

fn write_counted(mut file: &File, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Some(ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever shares a terminal or pipe with us may have made it
            // non-blocking; then we wait here as a blocking write would.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut ready = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::OUT)];
                match poll(&mut ready, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return (written, Some(error.into())),
                }
            }
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_is_an_error_with_its_reason() {
        let full = Path::new("/dev/full");
        let mut sink = Sink::open(&LogOutput::File(full.to_owned())).unwrap();
        let (written, error) = sink.write(b"{}\n");
        assert_eq!(written, 0);
        assert_eq!(error.unwrap().kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn a_write_that_fails_half_way_says_how_far_it_came() {
        let (reader, writer) = io::pipe().unwrap();
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        let mut sink = Sink::over(writer);
        let lines = b"0123456789abcde\n".repeat(1 << 16);
        let reading = std::thread::spawn(move || {
            let mut some = [0; 100];
            let mut reader = reader;
            reader.read_exact(&mut some).unwrap();
        });
        let (written, error) = sink.write(&lines);
        reading.join().unwrap();
        assert!(written >= 100 && written < lines.len(), "{written}");
        assert_eq!(error.unwrap().kind(), ErrorKind::BrokenPipe);
        assert_eq!(sink.at_line_start, lines[written - 1] == b'\n');
    }

    #[test]
    fn a_new_file_is_its_owners_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.log");
        Sink::open(&LogOutput::File(path.clone())).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_full_non_blocking_pipe_is_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
        let mut sink = Sink::over(writer);
        let lines = b"0123456789abcde\n".repeat(1 << 15);
        let expected = lines.clone();
        let reading = std::thread::spawn(move || {
            let mut text = Vec::new();
            reader.read_to_end(&mut text).unwrap();
            text
        });
        let (written, error) = sink.write(&lines);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(written, lines.len());
        drop(sink);
        assert_eq!(reading.join().unwrap(), expected);
    }
}
