//! From a connection to an association: who may come in, and how many at a time.

mod lobby;
mod tally;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dicom_ul::{
    Pdu,
    pdu::{
        AbortRQServiceProviderReason, AssociationRJ, AssociationRJResult,
        AssociationRJServiceProviderASCEReason as AcseReason,
        AssociationRJServiceProviderPresentationReason as PresentationReason,
        AssociationRJServiceUserReason as UserReason, AssociationRJSource, AssociationRQ,
    },
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use self::{
    lobby::{Lobby, Stay},
    tally::Tally,
};
use crate::{
    AssociationId, AssociationInfo, Peer, ServerConfig, Sink, Tls,
    bounds::{Full, Place, Places, neighbourhood},
    certificate::Certificate,
    negotiation::{self, APPLICATION_CONTEXT, PROTOCOL_VERSION, printable},
    scp::Provider,
    tls,
    wire::{Socket, Wire, WireError, looks_like},
};

/// Connections from addresses that no peer has, which may wait at a time: to ask, and to be told no.
const STRANGERS: usize = 16;
/// Those of one such address.
const STRANGERS_OF_ADDRESS: usize = 8;
/// The least number of connections of one known address that may wait at a time.
const WAITING_OF_ADDRESS: usize = 16;
/// Connections that are told at a time that there is no place to wait. More than these are dropped.
const FAREWELLS: usize = 32;
/// Connections to the TLS port, from addresses that no peer has, that may be in their handshake at a time, where a peer is
/// known by its certificate alone. One that is silent costs a file descriptor and little else.
const UNPROVEN: usize = 512;
/// How often it is said what was not said of connections without an association.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// A connection that has not said yet what it is.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) socket: TcpStream,
    pub(crate) address: SocketAddr,
    /// Whether it came to the TLS port.
    pub(crate) secure: bool,
}

/// What all associations share.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) config: ServerConfig,
    /// Ends what is still open when the stop deadline is over.
    pub(crate) abort: CancellationToken,
    next_id: AtomicU64,
    /// Associations, by the peer's place in the configuration.
    associations: Arc<Places<usize>>,
    /// Connections without an association, by where they come from. They take no place of an association, so that whoever
    /// connects and says nothing keeps nobody out.
    waiting: Arc<Places<IpAddr>>,
    /// Those who may be a peer that is known by its certificate and calls from anywhere, until they show it. Apart from the
    /// others, because everybody may be one. There is none where every peer has an address.
    unproven: Option<Arc<Lobby>>,
    /// Those who have shown such a certificate, by the peer's place in the configuration.
    proven: Arc<Places<usize>>,
    strangers: Arc<Places<IpAddr>>,
    farewells: Arc<Places<()>>,
    tally: Tally,
}

/// Where a connection is until it has an association.
#[derive(Debug)]
#[expect(dead_code, reason = "places are held, and given back by being dropped")]
pub(crate) enum Waiting {
    /// By its address, or among the strangers.
    Address(Place<IpAddr>),
    /// Until its handshake is done.
    Unproven(Stay),
    /// By its certificate.
    Proven(Place<usize>),
}

/// Why a requestor may not come in: the reason that it is told (PS3.8 table 9-21) and what the log says.
struct Rejection {
    reason: UserReason,
    why: &'static str,
}

/// Tells the sink of the end of an association in whatever way it ends, also by a panic or by being dropped.
struct Opened<'a, S: Sink> {
    sink: &'a S,
    association: Arc<AssociationInfo>,
}

impl<S: Sink> Drop for Opened<'_, S> {
    fn drop(&mut self) {
        self.sink.association_closed(&self.association);
    }
}

impl House {
    pub(crate) fn new(config: ServerConfig) -> Self {
        let associations = config.max_associations;
        let by_certificate = config.peers.iter().filter(|peer| is_known_by_certificate_alone(peer));
        // A peer that opens all its associations at once must find room.
        let unproven =
            by_certificate.clone().map(|peer| peer.max_associations.clamp(WAITING_OF_ADDRESS, UNPROVEN)).max();
        let waiting = waiting_in_all(associations);
        Self {
            abort: CancellationToken::new(),
            next_id: AtomicU64::new(1),
            associations: Places::keeping(associations, config.peers.len()),
            waiting: Places::new(waiting),
            unproven: unproven.map(|most| Lobby::new(UNPROVEN, most)),
            proven: Places::keeping(waiting, by_certificate.count()),
            strangers: Places::new(STRANGERS),
            farewells: Places::new(FAREWELLS),
            tally: Tally::default(),
            config,
        }
    }

    /// Says how many lines about connections without an association were left out since it was last called.
    pub(crate) fn end_minute(&self) {
        for unwritten in self.tally.end_minute() {
            warn!("{unwritten}");
        }
    }

    /// A place to wait in until the association request is there, or which bound was met.
    pub(crate) fn waiting_place(&self, visitor: &Visitor) -> Result<Waiting, Full> {
        let address = visitor.address.ip();
        let mut peers = self.config.peers.iter().filter(|peer| visitor.secure || peer.certificates.is_empty());
        if peers.any(|peer| !peer.addresses.is_empty() && peer.has_address(address)) {
            // A peer that opens all its associations at once must find room.
            let most = self.config.max_associations.max(WAITING_OF_ADDRESS);
            return self.waiting.take(neighbourhood(address), most).map(Waiting::Address);
        }
        match &self.unproven {
            Some(lobby) if visitor.secure => Ok(Waiting::Unproven(lobby.enter(neighbourhood(address)))),
            _ => self.stranger(address),
        }
    }

    fn stranger(&self, address: IpAddr) -> Result<Waiting, Full> {
        self.strangers.take(neighbourhood(address), STRANGERS_OF_ADDRESS).map(Waiting::Address)
    }

    /// The place of a connection that has shown a certificate, where it needs another one than before: that of the peer
    /// whose certificate it is. With one that no peer has it is a stranger. `None` when its place was taken meanwhile.
    fn proven_place(&self, waiting: Waiting, address: IpAddr, wire: &Wire) -> Option<Result<Waiting, Full>> {
        let stay = match waiting {
            Waiting::Unproven(stay) => stay,
            other => return Some(Ok(other)),
        };
        if !stay.leave() {
            return None;
        }
        let certificate = wire.peer_certificate().and_then(Certificate::parse);
        let presents = |peer: &Peer| certificate.as_ref().is_some_and(|certificate| peer.has_certificate(certificate));
        let is_known = |peer: &Peer| is_known_by_certificate_alone(peer) && presents(peer);
        Some(match self.config.peers.iter().position(is_known) {
            Some(index) => {
                let most = self.config.peers[index].max_associations.max(WAITING_OF_ADDRESS);
                self.proven.take(index, most).map(Waiting::Proven)
            }
            None => self.stranger(address),
        })
    }

    /// Sends away a connection that there is no place for: "temporary congestion", without waiting for its request, so
    /// that it costs next to nothing. `None` when even that is too much.
    pub(crate) fn farewell(&self, visitor: Visitor, full: Full) -> Option<impl Future<Output = ()> + use<>> {
        let Visitor { socket, address, secure } = visitor;
        self.turned_away(address, full);
        // Over TLS there is no saying anything before the handshake.
        let place = if secure { None } else { self.farewells.take((), FAREWELLS).ok() }?;
        let mut wire =
            Wire::new(Socket::Plain(socket), self.config.max_pdu_length, self.config.deadlines.write).ok()?;
        Some(async move {
            reject_for_now(&mut wire, PresentationReason::TemporaryCongestion).await;
            drop(place);
        })
    }

    fn turned_away(&self, address: SocketAddr, full: Full) {
        let why = match full {
            Full::InAll | Full::Kept => "too many connections have not asked for an association yet",
            Full::OfKey => "too many connections of this address or peer have not asked for an association yet",
        };
        if self.tally.has_line(address.ip()) {
            warn!(%address, "connection turned away: {why}");
        }
    }

    /// Waits for the association request and serves the association to its end.
    pub(crate) async fn receive<S: Sink>(
        self: Arc<Self>,
        visitor: Visitor,
        waiting: Waiting,
        sink: Arc<S>,
        stop: CancellationToken,
    ) {
        let address = visitor.address;
        let arrived = tokio::select! {
            () = stop.cancelled() => return,
            arrived = self.request(visitor, waiting) => arrived,
        };
        let Some((mut wire, request, waiting)) = arrived else { return };
        let certificate = wire.peer_certificate().and_then(Certificate::parse);
        let (calling, called) = (printable(&request.calling_ae_title), printable(&request.called_ae_title));
        let shown = certificate.as_ref().map(tracing::field::display);
        let index = match self.admit(&request, address.ip(), certificate.as_ref()) {
            Ok(index) => index,
            Err(Rejection { reason, why }) => {
                if self.tally.has_line(address.ip()) {
                    warn!(%address, calling, called, certificate = shown, "association rejected: {why}");
                }
                let source = AssociationRJSource::ServiceUser(reason);
                reject(&mut wire, AssociationRJResult::Permanent, source).await;
                return;
            }
        };
        let peer = &self.config.peers[index];
        let place = match self.associations.take(index, peer.max_associations) {
            Ok(place) => place,
            Err(full) => {
                let (why, limit) = match full {
                    Full::InAll => ("all associations are taken", self.config.max_associations),
                    Full::OfKey => ("all of this peer's associations are taken", peer.max_associations),
                    Full::Kept => (
                        "the associations that are left are kept for peers that have none",
                        self.config.max_associations,
                    ),
                };
                let peer = &peer.name;
                if self.tally.has_line(address.ip()) {
                    warn!(%address, calling, peer, limit, "association rejected: {why}");
                }
                reject_for_now(&mut wire, PresentationReason::LocalLimitExceeded).await;
                return;
            }
        };
        drop(waiting);
        let association = Arc::new(AssociationInfo {
            id: AssociationId(self.next_id.fetch_add(1, Ordering::Relaxed)),
            peer_name: peer.name.clone(),
            address,
            calling_ae_title: calling,
            implementation: negotiation::implementation(&request.user_variables),
        });
        self.associate(wire, request, association, &*sink).await;
        drop(place);
    }

    async fn associate<S: Sink>(
        &self,
        mut wire: Wire,
        request: AssociationRQ,
        association: Arc<AssociationInfo>,
        sink: &S,
    ) {
        wire.established(negotiation::max_length(&request.user_variables));
        let (accepted, contexts) = negotiation::accept(request, &self.config);
        let span = info_span!("association", id = %association.id, peer = association.peer_name);
        let served = async {
            let opened = Opened { sink, association: Arc::clone(&association) };
            opened.sink.association_opened(&association);
            let (address, calling) = (association.address, &association.calling_ae_title);
            debug!(%address, calling, contexts = contexts.len(), "association accepted");
            if let Err(error) = wire.send_pdu(&Pdu::AssociationAC(accepted)).await {
                warn!("association lost: {error}");
                return;
            }
            let mut provider = Provider::new(wire, contexts, &self.config, sink, Arc::clone(&association));
            provider.serve(&self.abort).await;
        };
        served.instrument(span).await;
    }

    /// Which peer the requestor is: the one whose certificate it presents, else one that is known by its address.
    fn admit(
        &self,
        request: &AssociationRQ,
        address: IpAddr,
        certificate: Option<&Certificate>,
    ) -> Result<usize, Rejection> {
        let rejected = |reason, why| Err(Rejection { reason, why });
        if request.application_context_name.trim_end_matches(['\0', ' ']) != APPLICATION_CONTEXT {
            return rejected(UserReason::ApplicationContextNameNotSupported, "unknown application context");
        }
        let calling = request.calling_ae_title.trim_matches(['\0', ' ']);
        let presents = |peer: &Peer| certificate.is_some_and(|certificate| peer.has_certificate(certificate));
        let by_certificate = self.config.peers.iter().any(presents);
        let mut why = "no peer is configured with this address";
        let found = self.config.peers.iter().position(|peer| {
            // A certificate says who it is. Under any other row it would be somebody else.
            let is_candidate = if by_certificate { presents(peer) } else { peer.certificates.is_empty() };
            if !is_candidate {
                return false;
            }
            if !peer.has_address(address) {
                why = if by_certificate { "the peer of this certificate has another address" } else { why };
                return false;
            }
            if !peer.has_ae_title(calling) {
                why = if by_certificate {
                    "the peer of this certificate has another AE title"
                } else {
                    "the peers at this address have other AE titles"
                };
                return false;
            }
            true
        });
        let Some(index) = found else {
            let certificate_wanted = |peer: &Peer| !peer.certificates.is_empty() && peer.has_address(address);
            if !by_certificate && self.config.peers.iter().any(certificate_wanted) {
                why = if certificate.is_some() {
                    "no peer is configured with this certificate"
                } else {
                    "the peer at this address is known by its certificate: it must come over TLS"
                };
            }
            return rejected(UserReason::CallingAETitleNotRecognized, why);
        };
        if request.called_ae_title.trim_matches(['\0', ' ']) != self.config.ae_title.as_str() {
            return rejected(UserReason::CalledAETitleNotRecognized, "we have another AE title");
        }
        Ok(index)
    }

    /// Waits for the association request. Anything else costs one log line at most and the connection.
    async fn request(&self, visitor: Visitor, waiting: Waiting) -> Option<(Wire, AssociationRQ, Waiting)> {
        let deadline = Instant::now() + self.config.deadlines.association_request;
        let address = visitor.address;
        let lines = || self.tally.has_line(address.ip());
        let socket = self.socket(visitor, &waiting, deadline).await?;
        let mut wire = Wire::new(socket, self.config.max_pdu_length, self.config.deadlines.write)
            .inspect_err(|error| debug!(%address, %error, "connection lost"))
            .ok()?;
        let waiting = match self.proven_place(waiting, address.ip(), &wire)? {
            Ok(waiting) => waiting,
            Err(full) => {
                self.turned_away(address, full);
                if let Ok(_place) = self.farewells.take((), FAREWELLS) {
                    reject_for_now(&mut wire, PresentationReason::TemporaryCongestion).await;
                }
                return None;
            }
        };
        match wire.read_pdu(deadline, "no association request came in time").await {
            Ok(Pdu::AssociationRQ(request)) if request.protocol_version & PROTOCOL_VERSION != 0 => {
                return Some((wire, request, waiting));
            }
            Ok(Pdu::AssociationRQ(_)) => {
                if lines() {
                    warn!(%address, "association rejected: unknown version of the protocol");
                }
                let source = AssociationRJSource::ServiceProviderASCE(AcseReason::ProtocolVersionNotSupported);
                reject(&mut wire, AssociationRJResult::Permanent, source).await;
            }
            Ok(_) => {
                if lines() {
                    warn!(%address, "connection closed: a PDU came before the association request");
                }
                wire.abort(Some(AbortRQServiceProviderReason::UnexpectedPdu)).await;
            }
            // What a load balancer's health check does every few seconds, and a port scan once.
            Err(WireError::Closed) => debug!(%address, "connection closed by the peer before any request"),
            Err(WireError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                debug!(%address, "connection reset by the peer before any request");
            }
            Err(error) => {
                if lines() {
                    warn!(%address, "connection closed: {error}");
                }
                if matches!(error, WireError::Protocol(_) | WireError::TooLong { .. }) {
                    wire.abort(Some(AbortRQServiceProviderReason::InvalidPduParameter)).await;
                }
            }
        }
        None
    }

    /// The connection, after the TLS handshake if it came to the TLS port.
    async fn socket(&self, visitor: Visitor, waiting: &Waiting, deadline: Instant) -> Option<Socket> {
        let Visitor { socket, address, secure } = visitor;
        let tls = self.config.tls.as_ref().map(|listener| &listener.tls);
        let (true, Some(tls)) = (secure, tls) else { return Some(Socket::Plain(socket)) };
        // When many wait, each has less time.
        let deadline = match waiting {
            Waiting::Unproven(stay) if stay.is_crowded => {
                deadline.min(Instant::now() + self.config.deadlines.association_request / 3)
            }
            _ => deadline,
        };
        let done = tokio::select! {
            done = timeout_at(deadline, handshake(socket, tls)) => done,
            () = waiting.is_over() => Ok(Err(NoTls::Else("others came while it had not shown its certificate yet"))),
        };
        let (problem, failed) = match done {
            Ok(Ok(socket)) => return Some(socket),
            Ok(Err(NoTls::Closed)) => {
                debug!(%address, "connection closed by the peer before any TLS handshake");
                return None;
            }
            Ok(Err(NoTls::Else(what))) => (what.to_owned(), None),
            Ok(Err(NoTls::Failed(error, socket))) => (tls::problem(&error), Some(socket)),
            Err(_) => ("no TLS handshake came in time".to_owned(), None),
        };
        if self.tally.has_line(address.ip()) {
            warn!(%address, "connection closed: {problem}");
        }
        if let Some(mut socket) = failed {
            socket.close().await;
        }
        None
    }
}

impl Waiting {
    /// Waits until another connection is given this place, which most never are.
    async fn is_over(&self) {
        match self {
            Self::Unproven(stay) => stay.is_over().await,
            Self::Address(_) | Self::Proven(_) => std::future::pending().await,
        }
    }
}

/// Whether a peer may call from anywhere, with its certificate.
fn is_known_by_certificate_alone(peer: &Peer) -> bool {
    peer.addresses.is_empty() && !peer.certificates.is_empty()
}

/// Connections that wait at a time, of known addresses or with known certificates.
fn waiting_in_all(associations: usize) -> usize {
    associations.saturating_mul(2).saturating_add(4 * WAITING_OF_ADDRESS)
}

/// The most connections that are open at a time, associations among them.
pub(crate) fn most_connections(config: &ServerConfig) -> usize {
    let waiting = waiting_in_all(config.max_associations);
    let unproven =
        if config.peers.iter().any(is_known_by_certificate_alone) { UNPROVEN.saturating_add(waiting) } else { 0 };
    [waiting, unproven, STRANGERS, FAREWELLS].into_iter().fold(config.max_associations, usize::saturating_add)
}

/// Why there is no TLS on a connection.
enum NoTls {
    /// It was closed before a byte came.
    Closed,
    /// What came is something else.
    Else(&'static str),
    /// The connection is still there, so that the peer can be told.
    Failed(io::Error, Socket),
}

async fn handshake(socket: TcpStream, tls: &Tls) -> Result<Socket, NoTls> {
    let mut first = [0];
    match socket.peek(&mut first).await {
        Ok(0) => return Err(NoTls::Closed),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(NoTls::Closed),
        Err(error) => return Err(NoTls::Failed(error, Socket::Plain(socket))),
    }
    match first[0] {
        0x16 => {}
        // The type of an A-ASSOCIATE-RQ, with which every plain requestor begins.
        0x01 => return Err(NoTls::Else("a plain DICOM client on the TLS port")),
        other => return Err(NoTls::Else(looks_like(other))),
    }
    match TlsAcceptor::from(tls.server()).accept(socket).into_fallible().await {
        Ok(stream) => Ok(Socket::Tls(Box::new(stream.into()))),
        Err((error, socket)) => Err(NoTls::Failed(error, Socket::Plain(socket))),
    }
}

async fn reject(wire: &mut Wire, result: AssociationRJResult, source: AssociationRJSource) {
    if wire.send_pdu(&Pdu::AssociationRJ(AssociationRJ { result, source })).await.is_ok() {
        wire.close().await;
    }
}

async fn reject_for_now(wire: &mut Wire, reason: PresentationReason) {
    let source = AssociationRJSource::ServiceProviderPresentation(reason);
    reject(wire, AssociationRJResult::Transient, source).await;
}
