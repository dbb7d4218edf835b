//! OpenSSH's multiplexing protocol (PROTOCOL.mux in its sources), as far as a tunnel needs it: unlike `ssh -W`, it
//! says when the connection stands, and costs no process.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::UnixStream;

const VERSION: u32 = 4;
const HELLO: u32 = 0x0000_0001;
const NEW_STDIO_FORWARD: u32 = 0x1000_0008;
const SESSION_OPENED: u32 = 0x8000_0006;
/// Answers are short; more is not the protocol.
const MAX_PACKET: u32 = 64 * 1024;

/// A TCP connection behind the host, as two one-way channels. Our end of file reaches the other side, and its answer
/// still comes; once the other side has ended, though, OpenSSH takes nothing from us any more (it does so with every
/// `ssh -W`), so that a connection which the other side closes by half is closed as a whole.
#[derive(Debug)]
pub(crate) struct Forward {
    from_remote: UnixStream,
    to_remote: UnixStream,
    /// The trunk ends the forward when this closes.
    _control: UnixStream,
}

/// Asks the trunk for a connection to an address behind the host. `Ok(None)`: the host could not open it; the protocol
/// does not say why.
pub(crate) async fn open_forward(trunk: &Path, address: &str, port: u16) -> io::Result<Option<Forward>> {
    let mut control = UnixStream::connect(trunk).await?;
    write_packet(&mut control, &[&HELLO.to_be_bytes(), &VERSION.to_be_bytes()]).await?;
    let hello = read_packet(&mut control).await?;
    if word(&hello, 0) != Some(HELLO) || word(&hello, 4) != Some(VERSION) {
        return Err(io::Error::other("ssh speaks another version of its multiplexing protocol"));
    }
    let (from_remote, their_output) = UnixStream::pair()?;
    let (to_remote, their_input) = UnixStream::pair()?;
    let length = u32::try_from(address.len()).map_err(io::Error::other)?;
    write_packet(
        &mut control,
        &[
            &NEW_STDIO_FORWARD.to_be_bytes(),
            &1_u32.to_be_bytes(),
            // Reserved, an empty string.
            &0_u32.to_be_bytes(),
            &length.to_be_bytes(),
            address.as_bytes(),
            &u32::from(port).to_be_bytes(),
        ],
    )
    .await?;
    for end in [their_input, their_output] {
        let end: OwnedFd = end.into_std()?.into();
        send_descriptor(&control, end.as_fd()).await?;
    }
    let answer = read_packet(&mut control).await?;
    Ok((word(&answer, 0) == Some(SESSION_OPENED)).then_some(Forward {
        from_remote,
        to_remote,
        _control: control,
    }))
}

async fn write_packet(stream: &mut UnixStream, parts: &[&[u8]]) -> io::Result<()> {
    let body = parts.concat();
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &body].concat()).await
}

async fn read_packet(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    if length > MAX_PACKET {
        return Err(io::Error::other(format!("ssh announces an answer of {length} bytes")));
    }
    let mut body = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

fn word(packet: &[u8], at: usize) -> Option<u32> {
    packet.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
}

async fn send_descriptor(stream: &UnixStream, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let descriptors = [descriptor.as_raw_fd()];
    loop {
        stream.writable().await?;
        let sent = stream.try_io(Interest::WRITABLE, || {
            let messages = [ControlMessage::ScmRights(&descriptors)];
            sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&[0])], &messages, MsgFlags::empty(), None)
                .map_err(io::Error::from)
        });
        match sent {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

impl AsyncRead for Forward {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.from_remote).poll_read(context, buffer)
    }
}

impl AsyncWrite for Forward {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.to_remote).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to_remote).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to_remote).poll_shutdown(context)
    }
}
