//! A client of the admin listener over one keep-alive connection.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The most that an answer may have.
const ANSWER_BYTES_MAX: usize = 16 << 20;

pub struct Client {
    to: SocketAddr,
    stream: Option<TcpStream>,
    answer: Vec<u8>,
}

impl Client {
    pub fn new(to: SocketAddr) -> Self {
        Self {
            to,
            stream: None,
            answer: Vec::new(),
        }
    }

    /// The body of a 200.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Vec<u8>> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.to).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.to);
        stream.write_all(request.as_bytes()).await?;
        self.answer.clear();
        let (head, length) = loop {
            ensure!(stream.read_buf(&mut self.answer).await? > 0, "it hung up");
            if let Some(end) = self.answer.windows(4).position(|part| part == b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.answer[..end])?.to_lowercase();
                ensure!(head.starts_with("http/1.1 200"), "{path}: {head}");
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length:"))
                    .context("it says its length")?;
                break (end + 4, length.trim().parse::<usize>()?);
            }
        };
        ensure!(length < ANSWER_BYTES_MAX, "{length} bytes");
        while self.answer.len() < head + length {
            ensure!(stream.read_buf(&mut self.answer).await? > 0, "it hung up");
        }
        self.stream = Some(stream);
        Ok(self.answer[head..head + length].to_vec())
    }
}
