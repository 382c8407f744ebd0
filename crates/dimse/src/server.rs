use std::{
    net::SocketAddr,
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
        AssociationRJServiceProviderPresentationReason as PresentationReason,
        AssociationRJServiceUserReason as UserReason, AssociationRJSource, AssociationRQ,
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, info_span, warn};

use crate::{
    AeTitle, AssociationId, AssociationInfo, Error, Peer, Sink,
    negotiation::{self, APPLICATION_CONTEXT, PROTOCOL_VERSION, printable},
    scp::Provider,
    wire::{Wire, WireError},
};

/// How long each step of a peer may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlines {
    /// From the connection to the whole A-ASSOCIATE-RQ (the ARTIM timer of PS3.8 section 9.1.4).
    pub association_request: Duration,
    /// From one PDU to the next.
    pub idle: Duration,
    /// From the first fragment of a message to the last, so that a peer that sends a byte a minute has an end.
    pub message: Duration,
    /// For the peer to take what is sent to it.
    pub write: Duration,
    /// For open associations to end by themselves when the server stops.
    pub stop: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            association_request: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            message: Duration::from_secs(30 * 60),
            write: Duration::from_secs(30),
            stop: Duration::from_secs(20),
        }
    }
}

/// How the server listens, for whom, and within which bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// By what AE title we want to be called.
    pub ae_title: AeTitle,
    /// Who may associate, first match first. Nobody configured: this machine only.
    pub peers: Vec<Peer>,
    /// Associations open at a time; one more is told "local limit exceeded", and to try later.
    pub max_associations: usize,
    /// The longest P-DATA-TF that we take (PS3.8 annex D.1). A longer one ends the association.
    pub max_pdu_length: u32,
    /// The longest data set that we take.
    pub max_instance_bytes: u64,
    /// How long each step may take.
    pub deadlines: Deadlines,
}

impl ServerConfig {
    /// The usual bounds, for this machine only.
    pub fn new(address: SocketAddr, ae_title: AeTitle) -> Self {
        Self {
            address,
            ae_title,
            peers: Vec::new(),
            max_associations: 64,
            max_pdu_length: 128 << 10,
            max_instance_bytes: dataset::Limits::default().instance_bytes,
            deadlines: Deadlines::default(),
        }
    }
}

/// Connections that are being turned away at a time. They wait for a request only to answer it politely; more than
/// these are dropped.
const TURNED_AWAY: usize = 16;

/// A listening service class provider for verification and storage (PS3.4 annexes A and B).
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local_address: SocketAddr,
    house: House,
}

/// What all associations share.
#[derive(Debug)]
struct House {
    config: ServerConfig,
    next_id: AtomicU64,
    /// Ends what is still open when the stop deadline is over.
    abort: CancellationToken,
}

impl Server {
    /// Takes the port. Nobody is served before [`Self::serve`]. Errors with [`Error::Listen`], or
    /// [`Error::Configuration`] for bounds that cannot work.
    pub async fn bind(mut config: ServerConfig) -> Result<Self, Error> {
        if config.peers.is_empty() {
            config.peers.push(Peer::loopback());
        }
        if !(4 << 10..=16 << 20).contains(&config.max_pdu_length) {
            let text =
                format!("a maximum PDU length of {} bytes: it must be from 4096 to 16777216", config.max_pdu_length);
            return Err(Error::Configuration(text));
        }
        let address = config.address;
        let failed = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local_address = listener.local_addr().map_err(failed)?;
        let house = House { config, next_id: AtomicU64::new(1), abort: CancellationToken::new() };
        Ok(Self { listener, local_address, house })
    }

    /// Where it listens; tells the port that was taken for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_address
    }

    /// Serves until `stop` is cancelled. Then nobody new is let in, open associations have [`Deadlines::stop`] to end,
    /// and what is open after that is aborted.
    pub async fn serve<S: Sink>(self, sink: Arc<S>, stop: CancellationToken) {
        let Self { listener, local_address, house } = self;
        let house = Arc::new(house);
        let places = Arc::new(Semaphore::new(house.config.max_associations));
        let doorway = Arc::new(Semaphore::new(TURNED_AWAY));
        let mut tasks = JoinSet::new();
        info!(address = %local_address, ae_title = %house.config.ae_title, "listening for DICOM associations");
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = tasks.join_next() => {
                    report_panic(ended);
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            let (socket, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or a connection that is gone already: neither ends the server.
                    warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let known = house.config.peers.iter().any(|peer| peer.has_address(address.ip()));
            let place = if known { Arc::clone(&places).try_acquire_owned().ok() } else { None };
            if let Some(place) = place {
                tasks.spawn(Arc::clone(&house).associate(socket, address, Arc::clone(&sink), place));
            } else if let Ok(place) = Arc::clone(&doorway).try_acquire_owned() {
                tasks.spawn(Arc::clone(&house).turn_away(socket, address, known, place));
            } else {
                warn!(%address, "connection dropped: too many are being turned away");
            }
        }
        drop(listener);
        info!(associations = tasks.len(), "no longer accepting associations");
        let all_ended = async {
            while let Some(ended) = tasks.join_next().await {
                report_panic(ended);
            }
        };
        if timeout(house.config.deadlines.stop, all_ended).await.is_err() {
            warn!(associations = tasks.len(), "aborting the associations that are still open");
            house.abort.cancel();
            while let Some(ended) = tasks.join_next().await {
                report_panic(ended);
            }
        }
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        // The panic's message may quote what a peer sent.
        warn!(panicked = error.is_panic(), "an association ended by a defect of this program");
    }
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
    async fn associate<S: Sink>(
        self: Arc<Self>,
        socket: TcpStream,
        address: SocketAddr,
        sink: Arc<S>,
        _place: OwnedSemaphorePermit,
    ) {
        let Some(mut wire) = self.wire(socket, address) else { return };
        let request = tokio::select! {
            () = self.abort.cancelled() => return,
            request = self.request(&mut wire, address) => request,
        };
        let Some(request) = request else { return };
        let calling = printable(&request.calling_ae_title);
        let peer_name = match self.admit(&request, address) {
            Ok(peer) => peer.name.clone(),
            Err(reason) => {
                warn!(%address, calling, called = printable(&request.called_ae_title), "association rejected: {reason}");
                reject(&mut wire, AssociationRJResult::Permanent, AssociationRJSource::ServiceUser(reason)).await;
                return;
            }
        };
        wire.established(negotiation::max_length(&request.user_variables));
        let association = Arc::new(AssociationInfo {
            id: AssociationId(self.next_id.fetch_add(1, Ordering::Relaxed)),
            peer_name,
            address,
            calling_ae_title: calling,
            implementation: negotiation::implementation(&request.user_variables),
        });
        let (accepted, contexts) = negotiation::accept(request, self.config.max_pdu_length);
        let span = info_span!("association", id = %association.id, peer = association.peer_name);
        let served = async {
            let opened = Opened { sink: &*sink, association: Arc::clone(&association) };
            opened.sink.association_opened(&association);
            debug!(%address, calling = association.calling_ae_title, contexts = contexts.len(), "association accepted");
            if let Err(error) = wire.send_pdu(&Pdu::AssociationAC(accepted)).await {
                warn!("association lost: {error}");
                return;
            }
            let mut provider = Provider::new(wire, contexts, &self.config, &*sink, Arc::clone(&association));
            provider.serve(&self.abort).await;
        };
        served.instrument(span).await;
    }

    /// Which peer the requestor is, or why it may not come in (PS3.8 table 9-21).
    fn admit(&self, request: &AssociationRQ, address: SocketAddr) -> Result<&Peer, UserReason> {
        if request.application_context_name.trim_end_matches(['\0', ' ']) != APPLICATION_CONTEXT {
            return Err(UserReason::ApplicationContextNameNotSupported);
        }
        let calling = request.calling_ae_title.trim_matches(['\0', ' ']);
        let mut peers = self.config.peers.iter();
        let peer = peers
            .find(|peer| peer.has_address(address.ip()) && peer.has_ae_title(calling))
            .ok_or(UserReason::CallingAETitleNotRecognized)?;
        if request.called_ae_title.trim_matches(['\0', ' ']) != self.config.ae_title.as_str() {
            return Err(UserReason::CalledAETitleNotRecognized);
        }
        Ok(peer)
    }

    /// Answers an association request with "no": from an address that no peer has, or when all places are taken.
    async fn turn_away(
        self: Arc<Self>,
        socket: TcpStream,
        address: SocketAddr,
        known: bool,
        _place: OwnedSemaphorePermit,
    ) {
        let Some(mut wire) = self.wire(socket, address) else { return };
        let request = tokio::select! {
            () = self.abort.cancelled() => return,
            request = self.request(&mut wire, address) => request,
        };
        let Some(request) = request else { return };
        let (calling, called) = (printable(&request.calling_ae_title), printable(&request.called_ae_title));
        if known {
            warn!(%address, calling, called, limit = self.config.max_associations, "association rejected: all places are taken");
            let source = AssociationRJSource::ServiceProviderPresentation(PresentationReason::LocalLimitExceeded);
            reject(&mut wire, AssociationRJResult::Transient, source).await;
        } else {
            warn!(%address, calling, called, "association rejected: no peer is configured with this address");
            let source = AssociationRJSource::ServiceUser(UserReason::CallingAETitleNotRecognized);
            reject(&mut wire, AssociationRJResult::Permanent, source).await;
        }
    }

    fn wire(&self, socket: TcpStream, address: SocketAddr) -> Option<Wire> {
        Wire::new(socket, self.config.max_pdu_length, self.config.deadlines.write)
            .inspect_err(|error| debug!(%address, %error, "connection lost"))
            .ok()
    }

    /// Waits for the association request. Anything else costs one log line and the connection.
    async fn request(&self, wire: &mut Wire, address: SocketAddr) -> Option<AssociationRQ> {
        let waiting_for = "no association request came in time";
        match wire.read_pdu(self.config.deadlines.association_request, waiting_for).await {
            Ok(Pdu::AssociationRQ(request)) if request.protocol_version & PROTOCOL_VERSION != 0 => Some(request),
            Ok(Pdu::AssociationRQ(_)) => {
                warn!(%address, "association rejected: unknown version of the protocol");
                let source = AssociationRJSource::ServiceProviderASCE(
                    dicom_ul::pdu::AssociationRJServiceProviderASCEReason::ProtocolVersionNotSupported,
                );
                reject(wire, AssociationRJResult::Permanent, source).await;
                None
            }
            Ok(_) => {
                warn!(%address, "connection closed: a PDU came before the association request");
                wire.abort(Some(AbortRQServiceProviderReason::UnexpectedPdu)).await;
                None
            }
            // What a load balancer's health check does every few seconds.
            Err(WireError::Closed) => {
                debug!(%address, "connection closed by the peer before any request");
                None
            }
            Err(error) => {
                warn!(%address, "connection closed: {error}");
                if matches!(error, WireError::Protocol(_) | WireError::TooLong { .. }) {
                    wire.abort(Some(AbortRQServiceProviderReason::InvalidPduParameter)).await;
                }
                None
            }
        }
    }
}

async fn reject(wire: &mut Wire, result: AssociationRJResult, source: AssociationRJSource) {
    if wire.send_pdu(&Pdu::AssociationRJ(AssociationRJ { result, source })).await.is_ok() {
        wire.close().await;
    }
}
