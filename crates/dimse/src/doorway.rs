//! From a connection to an association: who may come in, and how many at a time.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
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
    /// Those who may be a peer that is known by its certificate and calls from anywhere. Apart from the others, because
    /// everybody may.
    unproven: Arc<Places<IpAddr>>,
    strangers: Arc<Places<IpAddr>>,
    farewells: Arc<Places<()>>,
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
        let unproven = config.peers.iter().filter(|peer| peer.addresses.is_empty()).map(|peer| peer.max_associations);
        let unproven = unproven.max().unwrap_or(0);
        Self {
            config,
            abort: CancellationToken::new(),
            next_id: AtomicU64::new(1),
            associations: Places::new(associations),
            waiting: Places::new(associations.saturating_mul(2).saturating_add(4 * WAITING_OF_ADDRESS)),
            unproven: Places::new(unproven.saturating_mul(4)),
            strangers: Places::new(STRANGERS),
            farewells: Places::new(FAREWELLS),
        }
    }

    /// A place to wait in until the association request is there, or which bound was met.
    pub(crate) fn waiting_place(&self, visitor: &Visitor) -> Result<Place<IpAddr>, Full> {
        let address = visitor.address.ip();
        let peers = || self.config.peers.iter().filter(|peer| visitor.secure || peer.certificates.is_empty());
        // A peer that opens all its associations at once must find room.
        let unproven = peers().filter(|peer| peer.addresses.is_empty()).map(|peer| peer.max_associations).max();
        if peers().any(|peer| !peer.addresses.is_empty() && peer.has_address(address)) {
            let most = self.config.max_associations.max(WAITING_OF_ADDRESS);
            self.waiting.take(neighbourhood(address), most)
        } else if let Some(most) = unproven {
            self.unproven.take(neighbourhood(address), most)
        } else {
            self.strangers.take(neighbourhood(address), STRANGERS_OF_ADDRESS)
        }
    }

    /// Sends away a connection that there is no place for: "temporary congestion", without waiting for its request, so
    /// that it costs next to nothing. `None` when even that is too much.
    pub(crate) fn farewell(&self, visitor: Visitor, full: Full) -> Option<impl Future<Output = ()> + use<>> {
        let Visitor { socket, address, secure } = visitor;
        let why = match full {
            Full::InAll => "too many connections have not asked for an association yet",
            Full::OfKey => "too many connections of this address have not asked for an association yet",
        };
        warn!(%address, "connection turned away: {why}");
        // Over TLS there is no saying anything before the handshake.
        let place = if secure { None } else { self.farewells.take((), FAREWELLS).ok() }?;
        let mut wire =
            Wire::new(Socket::Plain(socket), self.config.max_pdu_length, self.config.deadlines.write).ok()?;
        Some(async move {
            reject_for_now(&mut wire, PresentationReason::TemporaryCongestion).await;
            drop(place);
        })
    }

    /// Waits for the association request and serves the association to its end.
    pub(crate) async fn receive<S: Sink>(
        self: Arc<Self>,
        visitor: Visitor,
        waiting: Place<IpAddr>,
        sink: Arc<S>,
        stop: CancellationToken,
    ) {
        let address = visitor.address;
        let arrived = tokio::select! {
            () = stop.cancelled() => return,
            arrived = self.request(visitor) => arrived,
        };
        let Some((mut wire, request)) = arrived else { return };
        let certificate = wire.peer_certificate().and_then(Certificate::parse);
        let (calling, called) = (printable(&request.calling_ae_title), printable(&request.called_ae_title));
        let shown = certificate.as_ref().map(tracing::field::display);
        let index = match self.admit(&request, address.ip(), certificate.as_ref()) {
            Ok(index) => index,
            Err(Rejection { reason, why }) => {
                warn!(%address, calling, called, certificate = shown, "association rejected: {why}");
                let source = AssociationRJSource::ServiceUser(reason);
                reject(&mut wire, AssociationRJResult::Permanent, source).await;
                return;
            }
        };
        let peer = &self.config.peers[index];
        let place = match self.associations.take(index, peer.max_associations) {
            Ok(place) => place,
            Err(full) => {
                let (whose, limit) = match full {
                    Full::InAll => ("all", self.config.max_associations),
                    Full::OfKey => ("all of this peer's", peer.max_associations),
                };
                let peer = &peer.name;
                warn!(%address, calling, peer, limit, "association rejected: {whose} associations are taken");
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

    /// Waits for the association request. Anything else costs one log line and the connection.
    async fn request(&self, visitor: Visitor) -> Option<(Wire, AssociationRQ)> {
        let deadline = Instant::now() + self.config.deadlines.association_request;
        let address = visitor.address;
        let socket = self.socket(visitor, deadline).await?;
        let mut wire = Wire::new(socket, self.config.max_pdu_length, self.config.deadlines.write)
            .inspect_err(|error| debug!(%address, %error, "connection lost"))
            .ok()?;
        match wire.read_pdu(deadline, "no association request came in time").await {
            Ok(Pdu::AssociationRQ(request)) if request.protocol_version & PROTOCOL_VERSION != 0 => {
                return Some((wire, request));
            }
            Ok(Pdu::AssociationRQ(_)) => {
                warn!(%address, "association rejected: unknown version of the protocol");
                let source = AssociationRJSource::ServiceProviderASCE(AcseReason::ProtocolVersionNotSupported);
                reject(&mut wire, AssociationRJResult::Permanent, source).await;
            }
            Ok(_) => {
                warn!(%address, "connection closed: a PDU came before the association request");
                wire.abort(Some(AbortRQServiceProviderReason::UnexpectedPdu)).await;
            }
            // What a load balancer's health check does every few seconds, and a port scan once.
            Err(WireError::Closed) => debug!(%address, "connection closed by the peer before any request"),
            Err(WireError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                debug!(%address, "connection reset by the peer before any request");
            }
            Err(error) => {
                warn!(%address, "connection closed: {error}");
                if matches!(error, WireError::Protocol(_) | WireError::TooLong { .. }) {
                    wire.abort(Some(AbortRQServiceProviderReason::InvalidPduParameter)).await;
                }
            }
        }
        None
    }

    /// The connection, after the TLS handshake if it came to the TLS port.
    async fn socket(&self, visitor: Visitor, deadline: Instant) -> Option<Socket> {
        let Visitor { socket, address, secure } = visitor;
        let tls = self.config.tls.as_ref().map(|listener| &listener.tls);
        let (true, Some(tls)) = (secure, tls) else { return Some(Socket::Plain(socket)) };
        match timeout_at(deadline, handshake(socket, tls)).await {
            Ok(Ok(socket)) => return Some(socket),
            Ok(Err(NoTls::Closed)) => debug!(%address, "connection closed by the peer before any TLS handshake"),
            Ok(Err(NoTls::Else(what))) => warn!(%address, "connection closed: {what}"),
            Ok(Err(NoTls::Failed(error, mut socket))) => {
                warn!(%address, "connection closed: {}", tls::problem(&error));
                socket.close().await;
            }
            Err(_) => warn!(%address, "connection closed: no TLS handshake came in time"),
        }
        None
    }
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
