//! HTTP/1.1 over a socket with nothing between a test and what the network does to it.

use anyhow::{Context as _, bail, ensure};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// A connection, used for one request after the other.
pub(crate) struct Connection {
    address: String,
    keep: bool,
    stream: Option<BufReader<TcpStream>>,
    /// How often an idle connection turned out to be closed and was made anew.
    pub(crate) renewed: usize,
}

/// An answer.
struct Answer {
    status: u16,
    body: String,
    close: bool,
}

/// Why a request on a used connection failed.
enum Failure {
    /// The server had closed it before: not a byte of an answer came, so that a client may ask again (RFC 9112, 9.3.1).
    Idle,
    Other(anyhow::Error),
}

impl Connection {
    /// Connects when it is used; `keep` keeps the connection from request to request.
    pub(crate) fn new(address: &str, keep: bool) -> Self {
        Self {
            address: address.to_owned(),
            keep,
            stream: None,
            renewed: 0,
        }
    }

    /// One GET; the body of an answer with status 200.
    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<String> {
        let answer = match self.stream.take() {
            None => self.fresh(path)?,
            Some(stream) => match self.over(stream, path) {
                Ok(answer) => answer,
                Err(Failure::Idle) => {
                    self.renewed += 1;
                    self.fresh(path)?
                }
                Err(Failure::Other(error)) => return Err(error),
            },
        };
        if answer.close {
            self.stream = None;
        }
        ensure!(
            answer.status == 200,
            "{} answered {}: {}",
            self.address,
            answer.status,
            answer.body
        );
        Ok(answer.body)
    }

    fn fresh(&mut self, path: &str) -> anyhow::Result<Answer> {
        let stream = TcpStream::connect_timeout(&self.address.parse()?, LIMIT)
            .with_context(|| format!("connecting to {}", self.address))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        match self.over(BufReader::new(stream), path) {
            Ok(answer) => Ok(answer),
            Err(Failure::Idle) => bail!("{} closed the connection without an answer", self.address),
            Err(Failure::Other(error)) => Err(error),
        }
    }

    fn over(&mut self, mut stream: BufReader<TcpStream>, path: &str) -> Result<Answer, Failure> {
        let connection = if self.keep { "keep-alive" } else { "close" };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\n\r\n",
            self.address
        );
        stream
            .get_mut()
            .write_all(request.as_bytes())
            .map_err(|_| Failure::Idle)?;
        let mut line = String::new();
        match stream.read_line(&mut line) {
            Ok(0) => return Err(Failure::Idle),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Err(Failure::Idle),
            Err(error) => {
                return Err(Failure::Other(
                    anyhow::Error::new(error).context("waiting for an answer"),
                ));
            }
        }
        let answer = read(&line, &mut stream).map_err(Failure::Other)?;
        self.stream = self.keep.then_some(stream);
        Ok(answer)
    }
}

fn read(first: &str, stream: &mut BufReader<TcpStream>) -> anyhow::Result<Answer> {
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("an odd answer: {first}"))?;
    let (mut length, mut close) = (None, false);
    loop {
        let mut line = String::new();
        ensure!(stream.read_line(&mut line)? > 0, "the answer's head is cut off");
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.parse()?);
        }
        close |= name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close");
    }
    let mut body = vec![0; length.context("an answer without a length")?];
    stream
        .read_exact(&mut body)
        .context("the answer's body is cut off")?;
    Ok(Answer {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
        close,
    })
}

/// One GET over a connection of its own.
pub(crate) fn get(address: &str, path: &str) -> anyhow::Result<String> {
    Connection::new(address, false).get(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers so many requests on each connection, then closes it without a word.
    fn server(each: usize) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = BufReader::new(stream);
                for _ in 0..each {
                    let mut line = String::new();
                    while line != "\r\n" {
                        line.clear();
                        if stream.read_line(&mut line).unwrap() == 0 {
                            break;
                        }
                    }
                    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
                    let _ = stream.get_mut().write_all(answer.as_bytes());
                }
            }
        });
        address
    }

    #[test]
    fn a_connection_that_idled_away_is_made_anew_and_counted() {
        let mut connection = Connection::new(&server(2), true);
        for _ in 0..5 {
            assert_eq!(connection.get("/").unwrap(), "hi");
            // The server's end is seen, or not yet: either way the request is answered.
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(connection.renewed, 2);
    }

    #[test]
    fn a_server_that_answers_nothing_is_an_error() {
        assert!(get(&server(0), "/").is_err());
    }
}
