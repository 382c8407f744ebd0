//! PDUs over a connection (PS3.8 section 9.3), with a bound and a deadline on each.

use std::{io, ops::Range, time::Duration};

use dicom_ul::{
    Pdu,
    pdu::{AbortRQServiceProviderReason, AbortRQSource, read_pdu, write_pdu},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsStream;

use crate::{associate, command::CommandSet, tls};

/// The PDU's type, a reserved byte, its length.
const PDU_HEADER: usize = 6;
/// The value's length, presentation context, message control header.
const PDV_HEADER: usize = 6;
/// An A-ASSOCIATE with 128 presentation contexts of 60 transfer syntaxes each stays below this.
const ASSOCIATE_LIMIT: usize = 256 << 10;
/// All other PDUs have 4 bytes.
const SHORT_LIMIT: usize = 64;
/// What a command may grow to over its fragments. Real ones stay below 1 KiB.
pub(crate) const COMMAND_LIMIT: usize = 64 << 10;
/// The smallest maximum length that is believed: less would not hold a response.
const SMALLEST_PEER_LIMIT: u32 = 1 << 10;
/// The largest PDU that is sent, whatever the peer would take.
const LARGEST_SENT: u32 = 128 << 10;

/// The receive buffer at first: a request of common size in one read.
const READ_AHEAD_OF_STRANGER: usize = 4 << 10;
/// The receive buffer of an association: several PDUs of common size in one read.
const READ_AHEAD: usize = 64 << 10;

mod kind {
    pub(super) const A_ASSOCIATE_RQ: u8 = 1;
    pub(super) const A_ASSOCIATE_AC: u8 = 2;
    pub(super) const P_DATA_TF: u8 = 4;
    pub(super) const A_RELEASE_RQ: u8 = 5;
    pub(super) const A_RELEASE_RP: u8 = 6;
    pub(super) const A_ABORT: u8 = 7;
}

/// What went wrong on a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the connection was closed")]
    Closed,
    #[error("the connection was closed in the middle of a PDU")]
    Cut,
    #[error("{0}")]
    TimedOut(&'static str),
    #[error("what came is no DICOM PDU but {0}")]
    NotDicom(&'static str),
    #[error("a PDU of {length} bytes came where at most {limit} are allowed")]
    TooLong { length: usize, limit: usize },
    #[error("{0}")]
    Protocol(&'static str),
    /// A PDU that is in order, where it has no place.
    #[error("{0}")]
    Unexpected(&'static str),
    /// A message that is not in order, in PDUs that are.
    #[error("{0}")]
    Message(&'static str),
    #[error("the peer aborted: {0}")]
    Aborted(String),
    #[error("{}", tls::problem(.0))]
    Io(#[from] io::Error),
}

/// What comes over an established association.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    /// A fragment of a message.
    Value(Value<'a>),
    /// The peer asks to release the association.
    ReleaseRequest,
    /// The peer agrees to release the association.
    ReleaseResponse,
}

/// A presentation data value: a fragment of a command or of a data set (PS3.8 annex E).
#[derive(Debug)]
pub(crate) struct Value<'a> {
    pub(crate) context: u8,
    pub(crate) command: bool,
    pub(crate) last: bool,
    pub(crate) data: &'a [u8],
}

/// What PDUs travel over.
#[derive(Debug)]
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// The peer's certificate, in DER form; a peer over TLS has one, because it is asked for.
    fn peer_certificate(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.peer_certificates()?.first().map(AsRef::as_ref),
        }
    }

    /// Reads once; 0 is the end. Does not lose bytes when cancelled.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer).await,
            Self::Tls(stream) => match stream.read(buffer).await {
                // Without a close_notify before it. A PDU that is cut short is noticed by its length.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                read => read,
            },
        }
    }

    /// Writes everything, and does not return before it is the system's to send.
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
        }
    }

    /// Closes the connection so that the peer can still read what was sent last: closing with bytes unread would reset it
    /// (PS3.8 section 9.2.3, Sta13). Bounded in time and bytes.
    pub(crate) async fn close(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        const BYTES: usize = 1 << 20;
        let drained = async {
            self.shutdown().await?;
            let mut discarded = [0; 4 << 10];
            let mut total = 0;
            while total < BYTES {
                match self.read(&mut discarded).await? {
                    0 => break,
                    count => total += count,
                }
            }
            io::Result::Ok(())
        };
        // Whatever happens, the connection ends here.
        let _ = timeout(PATIENCE, drained).await;
    }
}

/// A connection that speaks the upper layer.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Socket,
    /// Bytes read and not yet consumed are `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The least size of the buffer.
    read_ahead: usize,
    /// What is left of the P-DATA-TF that values are being taken from.
    values: Range<usize>,
    /// The longest P-DATA-TF that we take, as we told the peer.
    limit: u32,
    /// The longest P-DATA-TF that we send.
    peer_limit: u32,
    write_deadline: Duration,
    out: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(socket: Socket, limit: u32, write_deadline: Duration) -> io::Result<Self> {
        // Responses are small and the peer waits for each.
        socket.tcp().set_nodelay(true)?;
        Ok(Self {
            socket,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            read_ahead: READ_AHEAD_OF_STRANGER,
            values: 0..0,
            limit,
            peer_limit: SMALLEST_PEER_LIMIT,
            write_deadline,
            out: Vec::new(),
        })
    }

    /// The association is agreed on, with the Maximum Length that the peer stated (PS3.8 annex D.1): 0 is "any".
    pub(crate) fn established(&mut self, stated: u32) {
        self.read_ahead = READ_AHEAD;
        let wanted = if stated == 0 { LARGEST_SENT } else { stated };
        self.peer_limit = wanted.clamp(SMALLEST_PEER_LIMIT, LARGEST_SENT);
    }

    /// How many bytes of a message fit into one PDU to the peer: an even number (PS3.8 annex E.2).
    pub(crate) fn fragment_size(&self) -> usize {
        (self.peer_limit as usize - PDV_HEADER) & !1
    }

    /// Reads a PDU of the association's establishment. Does not lose bytes when cancelled.
    pub(crate) async fn read_pdu(&mut self, deadline: Instant, waiting_for: &'static str) -> Result<Pdu, WireError> {
        let (kind, body) = self.next_pdu(deadline, waiting_for).await?;
        if kind == kind::A_ABORT {
            return Err(self.aborted(body));
        }
        let pdu = match kind {
            kind::A_ASSOCIATE_RQ => associate::request(&self.buffer[body]),
            kind::A_ASSOCIATE_AC => associate::acceptance(&self.buffer[body]),
            _ => {
                let pdu = &self.buffer[body.start - PDU_HEADER..body.end];
                // The length is checked already; dicom-ul wants a limit of its own sort.
                read_pdu(pdu, dicom_ul::pdu::MAXIMUM_PDU_SIZE, false).ok().flatten()
            }
        };
        pdu.ok_or(WireError::Protocol("an A-ASSOCIATE PDU is malformed"))
    }

    /// What comes next over the established association. Does not lose bytes when cancelled.
    pub(crate) async fn next(
        &mut self,
        deadline: Instant,
        waiting_for: &'static str,
    ) -> Result<Incoming<'_>, WireError> {
        while self.values.is_empty() {
            let (kind, body) = self.next_pdu(deadline, waiting_for).await?;
            match kind {
                kind::P_DATA_TF => self.values = body,
                kind::A_RELEASE_RQ => return Ok(Incoming::ReleaseRequest),
                kind::A_RELEASE_RP => return Ok(Incoming::ReleaseResponse),
                kind::A_ABORT => return Err(self.aborted(body)),
                _ => return Err(WireError::Unexpected("a second A-ASSOCIATE PDU came on an association")),
            }
        }
        self.next_value().map(Incoming::Value).ok_or(WireError::Protocol("a P-DATA-TF PDU is malformed"))
    }

    fn next_value(&mut self) -> Option<Value<'_>> {
        let left = &self.buffer[self.values.clone()];
        let (&[a, b, c, d], rest) = left.split_first_chunk::<4>()?;
        let (item, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?)?;
        let (&[context, control], data) = item.split_first_chunk::<2>()?;
        self.values.start = self.values.end - rest.len();
        Some(Value { context, command: control & 1 != 0, last: control & 2 != 0, data })
    }

    fn aborted(&self, body: Range<usize>) -> WireError {
        let pdu = read_pdu(&self.buffer[body.start - PDU_HEADER..body.end], dicom_ul::pdu::MAXIMUM_PDU_SIZE, false);
        WireError::Aborted(match pdu {
            Ok(Some(Pdu::AbortRQ { source: AbortRQSource::ServiceUser })) => "by its application".to_owned(),
            Ok(Some(Pdu::AbortRQ { source: AbortRQSource::ServiceProvider(reason) })) => reason.to_string(),
            _ => "no reason given".to_owned(),
        })
    }

    /// The next PDU's type, and where in the buffer its body is until the next read.
    async fn next_pdu(
        &mut self,
        deadline: Instant,
        waiting_for: &'static str,
    ) -> Result<(u8, Range<usize>), WireError> {
        loop {
            let have = &self.buffer[self.start..self.end];
            let need = match have {
                [] => PDU_HEADER,
                // The first byte tells: a port scan or a browser must not make us wait for five more.
                [kind, ..] if !(1..=7).contains(kind) => return Err(WireError::NotDicom(looks_like(*kind))),
                [kind, _, a, b, c, d, ..] => {
                    let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                    let limit = match *kind {
                        kind::A_ASSOCIATE_RQ | kind::A_ASSOCIATE_AC => ASSOCIATE_LIMIT,
                        kind::P_DATA_TF => self.limit as usize,
                        _ => SHORT_LIMIT,
                    };
                    if length > limit {
                        return Err(WireError::TooLong { length, limit });
                    }
                    let end = PDU_HEADER + length;
                    if have.len() >= end {
                        let body = self.start + PDU_HEADER..self.start + end;
                        let kind = *kind;
                        self.start = body.end;
                        return Ok((kind, body));
                    }
                    end
                }
                _ => PDU_HEADER,
            };
            timeout_at(deadline, self.fill(need)).await.map_err(|_| WireError::TimedOut(waiting_for))??;
        }
    }

    /// Reads once, into a buffer that holds at least `need` bytes from `start` on.
    async fn fill(&mut self, need: usize) -> Result<(), WireError> {
        if self.start > 0 && (self.start == self.end || self.buffer.len() - self.start < need) {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < need {
            // `need` is within the limits above.
            self.buffer.resize(need.max(self.read_ahead), 0);
        }
        self.acknowledge_at_once();
        match self.socket.read(&mut self.buffer[self.end..]).await? {
            0 if self.start == self.end => Err(WireError::Closed),
            0 => Err(WireError::Cut),
            count => {
                self.end += count;
                Ok(())
            }
        }
    }

    /// Most senders leave Nagle's algorithm on: the end of a data set then waits for our acknowledgement, which Linux
    /// delays by 40 ms. The option lasts for a few segments only, so it is set before each read.
    fn acknowledge_at_once(&self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = self.socket.tcp().set_quickack(true) {
            tracing::trace!(%error, "cannot set TCP_QUICKACK");
        }
    }

    /// Sends a PDU of the association's establishment or end.
    pub(crate) async fn send_pdu(&mut self, pdu: &Pdu) -> Result<(), WireError> {
        self.out.clear();
        write_pdu(&mut self.out, pdu).map_err(|_| WireError::Protocol("a PDU cannot be encoded"))?;
        self.flush().await
    }

    /// Sends a command, in as many fragments as the peer's maximum length asks for.
    pub(crate) async fn send_command(&mut self, context: u8, command: &CommandSet) -> Result<(), WireError> {
        let bytes = command.to_bytes();
        let mut fragments = bytes.chunks(self.fragment_size()).peekable();
        while let Some(fragment) = fragments.next() {
            let last = fragments.peek().is_none();
            self.send_value(&Value { context, command: true, last, data: fragment }).await?;
        }
        Ok(())
    }

    /// Sends one fragment as one PDU; its data must fit [`Self::fragment_size`].
    pub(crate) async fn send_value(&mut self, value: &Value<'_>) -> Result<(), WireError> {
        let length = u32::try_from(value.data.len() + 2).map_err(|_| WireError::Protocol("a fragment is too long"))?;
        self.out.clear();
        self.out.extend_from_slice(&[kind::P_DATA_TF, 0]);
        self.out.extend_from_slice(&(length + 4).to_be_bytes());
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(&[value.context, u8::from(value.command) | u8::from(value.last) << 1]);
        self.out.extend_from_slice(value.data);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), WireError> {
        timeout(self.write_deadline, self.socket.write_all(&self.out))
            .await
            .map_err(|_| WireError::TimedOut("the peer did not take what was sent in time"))??;
        Ok(())
    }

    /// Aborts the association (PS3.8 section 7.3), as well as can be: the connection may be gone already.
    pub(crate) async fn abort(&mut self, reason: Option<AbortRQServiceProviderReason>) {
        let source = reason.map_or(AbortRQSource::ServiceUser, AbortRQSource::ServiceProvider);
        if self.send_pdu(&Pdu::AbortRQ { source }).await.is_ok() {
            self.close().await;
        }
    }

    /// Closes the connection as [`Socket::close`].
    pub(crate) async fn close(&mut self) {
        self.socket.close().await;
    }

    /// The certificate that the peer presents, over TLS.
    pub(crate) fn peer_certificate(&self) -> Option<&[u8]> {
        self.socket.peer_certificate()
    }
}

/// What a first byte that is not of a PDU is likely to belong to.
pub(crate) fn looks_like(first: u8) -> &'static str {
    match first {
        0x16 => "a TLS handshake",
        b' '..=b'~' | b'\r' | b'\n' | b'\t' => "text, perhaps HTTP",
        _ => "unknown bytes",
    }
}
