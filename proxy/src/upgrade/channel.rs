//! The Unix socket between two processes: lines of text, and one message with sockets.

use std::io::{Error, ErrorKind, IoSlice, IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// More listeners than an edge has.
const SOCKETS_MAX: usize = 8;
const LINE_MAX: usize = 1024;

/// Sends a line.
pub(super) async fn say(stream: &mut UnixStream, line: &str) -> Result<()> {
    stream.write_all(format!("{line}\n").as_bytes()).await
}

/// Receives a line. [`ErrorKind::UnexpectedEof`] if the other side has gone.
pub(super) async fn hear(stream: &mut UnixStream) -> Result<String> {
    let (line, sockets) = receive(stream).await?;
    if sockets.is_empty() {
        Ok(line)
    } else {
        Err(unexpected())
    }
}

/// Sends a line with sockets, whose names it holds.
pub(super) async fn hand_over(stream: &UnixStream, sockets: &[(&str, &TcpListener)]) -> Result<()> {
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    let line = format!("{}\n", names.join(" "));
    let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
    let sent = stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(Error::new(ErrorKind::InvalidInput, "too many sockets"));
            }
            let bytes = [IoSlice::new(line.as_bytes())];
            sendmsg(stream, &bytes, &mut control, SendFlags::NOSIGNAL).map_err(Error::from)
        })
        .await?;
    if sent == line.len() { Ok(()) } else { Err(unexpected()) }
}

/// Receives what [`hand_over`] sent.
pub(super) async fn take_over(stream: &mut UnixStream) -> Result<Vec<(String, TcpListener)>> {
    let (names, descriptors) = receive(stream).await?;
    let names: Vec<String> = names.split(' ').map(str::to_owned).collect();
    if names.len() != descriptors.len() {
        return Err(unexpected());
    }
    names
        .into_iter()
        .zip(descriptors)
        .map(|(name, descriptor)| {
            let socket = TcpListener::from(descriptor);
            socket.set_nonblocking(true)?;
            Ok((name, socket))
        })
        .collect()
}

/// A line of the conversation is short and sent at once, so it arrives at once; what is longer is not of this conversation.
async fn receive(stream: &UnixStream) -> Result<(String, Vec<OwnedFd>)> {
    let mut bytes = [0; LINE_MAX];
    let mut descriptors = Vec::new();
    let length = stream
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            let received = recvmsg(stream, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    descriptors.extend(rights);
                }
            }
            Ok(received.bytes)
        })
        .await?;
    if length == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let line = bytes[..length].strip_suffix(b"\n").ok_or_else(unexpected)?;
    let line = String::from_utf8(line.to_vec()).map_err(|_| unexpected())?;
    Ok((line, descriptors))
}

fn unexpected() -> Error {
    Error::new(ErrorKind::InvalidData, "not a line of this conversation")
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_socket_that_was_handed_over_accepts_what_waited_in_it() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (first, second) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        );
        let address = second.local_addr().unwrap();
        let mut waiting = TcpStream::connect(address).unwrap();
        hand_over(&ours, &[("a", &first), ("b", &second)]).await.unwrap();
        drop((first, second));
        let taken = take_over(&mut theirs).await.unwrap();
        let [(a, _), (b, socket)] = &taken[..] else {
            panic!("{taken:?}");
        };
        assert_eq!((a.as_str(), b.as_str()), ("a", "b"));
        assert_eq!(socket.local_addr().unwrap(), address);
        let (accepted, _) = socket.accept().unwrap();
        drop(accepted);
        assert_eq!(waiting.read(&mut [0; 1]).unwrap(), 0, "accepted, then closed");
    }

    #[tokio::test]
    async fn what_is_not_of_the_conversation_is_an_error_and_the_end_is_told_apart() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        say(&mut ours, "hello").await.unwrap();
        assert_eq!(hear(&mut theirs).await.unwrap(), "hello");
        ours.write_all(b"no end").await.unwrap();
        assert_eq!(hear(&mut theirs).await.unwrap_err().kind(), ErrorKind::InvalidData);
        say(&mut ours, "names without sockets").await.unwrap();
        assert_eq!(take_over(&mut theirs).await.unwrap_err().kind(), ErrorKind::InvalidData);
        drop(ours);
        assert_eq!(hear(&mut theirs).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}
