//! A mail server that keeps what it is given, so that tests can read the letters that people would.
//!
//! Speaks as much of SMTP (RFC 5321) as clients need to hand over a letter, without TLS, on a port of the loopback interface.
//! It can be told to refuse everything for now, and recipients for good. Stopping it closes its port; it can be started again
//! on the same one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::error::Error;
use crate::wait::{WaitError, wait_for};

/// The longest line that is read, in bytes.
const LINE_MAX: usize = 64 * 1024;

/// A letter that was handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Envelope sender.
    pub from: String,
    /// Envelope recipients.
    pub to: Vec<String>,
    /// The message as it was sent: headers and encoded parts, lines ended by `\n`.
    pub data: String,
}

impl Letter {
    /// The message with quoted-printable decoded: what people read, and the headers.
    pub fn text(&self) -> String {
        decoded(&self.data)
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.data.split("\n\n").next()?;
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The first word that begins with `prefix`, such as the address of a link.
    pub fn word(&self, prefix: &str) -> Option<String> {
        self.text()
            .split(|c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>'))
            .find(|word| word.starts_with(prefix))
            .map(str::to_owned)
    }
}

#[derive(Debug, Default)]
struct State {
    letters: Vec<Letter>,
    refuse_all: bool,
    refused: Vec<String>,
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct SmtpServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: Option<JoinHandle<()>>,
}

impl SmtpServer {
    /// Starts on a free port.
    ///
    /// # Errors
    /// [`Error::Io`] when no port can be listened on.
    pub async fn start() -> Result<Self, Error> {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr().map_err(no_port)?;
        let state = Arc::<Mutex<State>>::default();
        let task = Some(tokio::spawn(serve(listener, Arc::clone(&state))));
        Ok(Self { address, state, task })
    }

    /// `smtp://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Closes the port and every connection. Letters stay.
    pub fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// Opens the port again.
    ///
    /// # Errors
    /// [`Error::Io`] when somebody else has the port.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.stop();
        let listener = bind(self.address).await?;
        self.task = Some(tokio::spawn(serve(listener, Arc::clone(&self.state))));
        Ok(())
    }

    /// Answers 451 to every letter, or no longer.
    pub fn refuse_for_now(&self, refuse: bool) {
        self.state().refuse_all = refuse;
    }

    /// Answers 550 to this recipient from now on.
    pub fn refuse_for_good(&self, recipient: &str) {
        self.state().refused.push(recipient.to_owned());
    }

    /// The letters so far, oldest first.
    pub fn letters(&self) -> Vec<Letter> {
        self.state().letters.clone()
    }

    /// The letters to this address, oldest first.
    pub fn letters_to(&self, recipient: &str) -> Vec<Letter> {
        let mut letters = self.letters();
        letters.retain(|letter| letter.to.iter().any(|to| to == recipient));
        letters
    }

    /// Waits for the letter number `count` to this address, and gives it.
    ///
    /// # Errors
    /// [`WaitError`] when there are fewer after `deadline`.
    pub async fn letter_to(&self, recipient: &str, count: usize, deadline: Duration) -> Result<Letter, WaitError> {
        let what = format!("letter {count} to {recipient}");
        wait_for(what, deadline, async || {
            let letters = self.letters_to(recipient);
            let found = letters.len();
            letters
                .into_iter()
                .nth(count.saturating_sub(1))
                .ok_or_else(|| std::io::Error::other(format!("{found} letters")))
        })
        .await
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(no_port)
}

fn no_port(source: std::io::Error) -> Error {
    Error::Io {
        action: "listen for SMTP".to_owned(),
        source,
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, Arc::clone(&state)));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, state: Arc<Mutex<State>>) {
    if let Err(error) = conversation(stream, &state).await {
        tracing::debug!(%error, "an SMTP client went away");
    }
}

async fn conversation(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    write.write_all(b"220 testkit ESMTP\r\n").await?;
    let mut letter = Letter {
        from: String::new(),
        to: Vec::new(),
        data: String::new(),
    };
    while let Some(line) = next(&mut lines).await? {
        let command = line.to_ascii_uppercase();
        let now = || state.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = if command.starts_with("EHLO") {
            "250-testkit\r\n250-8BITMIME\r\n250 SIZE 10485760".to_owned()
        } else if command.starts_with("MAIL FROM:") {
            letter.from = address(&line);
            if now().refuse_all {
                "451 not now".to_owned()
            } else {
                "250 ok".to_owned()
            }
        } else if command.starts_with("RCPT TO:") {
            let to = address(&line);
            if now().refused.contains(&to) {
                "550 no such mailbox".to_owned()
            } else {
                letter.to.push(to);
                "250 ok".to_owned()
            }
        } else if command == "DATA" {
            write.write_all(b"354 go on\r\n").await?;
            while let Some(line) = next(&mut lines).await? {
                if line == "." {
                    break;
                }
                letter.data.push_str(line.strip_prefix('.').unwrap_or(&line));
                letter.data.push('\n');
            }
            now().letters.push(letter.clone());
            letter.to.clear();
            letter.data.clear();
            "250 kept".to_owned()
        } else if command == "QUIT" {
            write.write_all(b"221 bye\r\n").await?;
            return Ok(());
        } else if matches!(command.as_str(), "NOOP" | "RSET") {
            "250 ok".to_owned()
        } else {
            "502 not here".to_owned()
        };
        write.write_all(answer.as_bytes()).await?;
        write.write_all(b"\r\n").await?;
    }
    Ok(())
}

async fn next(lines: &mut BufReader<tokio::net::tcp::OwnedReadHalf>) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    if lines.read_until(b'\n', &mut line).await? == 0 || line.len() > LINE_MAX {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&line);
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn address(line: &str) -> String {
    let inside = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map_or_else(String::new, |(address, _)| address.to_owned())
}

/// Quoted-printable (RFC 2045, 6.7), read leniently: what is not an escape stays.
fn decoded(text: &str) -> String {
    let joined = text.replace("=\n", "");
    let mut bytes = Vec::with_capacity(joined.len());
    let mut rest = joined.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escape = (first == b'=')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| str::from_utf8(digits).ok())
            .filter(|digits| {
                digits
                    .bytes()
                    .all(|digit| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit))
            })
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = escape {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_for_the_way_is_read_as_it_was_written() {
        assert_eq!(
            decoded("https://x/?token=3Da.b=\n.c =E2=82=AC"),
            "https://x/?token=a.b.c €"
        );
        assert_eq!(decoded("a = b =zz ="), "a = b =zz =");
    }
}
