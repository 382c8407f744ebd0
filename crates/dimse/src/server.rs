use std::{future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    AeTitle, Error, Peer, Sink, SopClassPattern, Tls,
    doorway::{House, MINUTE, Visitor, most_connections},
};

/// Connections that the system holds until they are accepted. With the usual 128, a port scan makes a peer try again, a
/// second later.
const BACKLOG: u32 = 1024;

/// How long each step of a peer may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlines {
    /// From the connection to the whole A-ASSOCIATE-RQ (the ARTIM timer of PS3.8 section 9.1.4), the TLS handshake
    /// included.
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
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where to listen for plain connections; port 0 takes a free one.
    pub address: Option<SocketAddr>,
    /// Where to listen for TLS. One of the two there must be.
    pub tls: Option<TlsListener>,
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
    /// Which private SOP classes are taken for storage: none, some, or, as at first, all, for what is not taken is lost.
    pub private_sop_classes: Vec<SopClassPattern>,
    /// How long each step may take.
    pub deadlines: Deadlines,
}

/// Where to listen for TLS, and with which certificates.
#[derive(Debug, Clone)]
pub struct TlsListener {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Our certificate, and the authorities whose certificates a peer may present.
    pub tls: Tls,
}

impl ServerConfig {
    /// The usual bounds, for this machine only, listening nowhere yet.
    pub fn new(ae_title: AeTitle) -> Self {
        Self {
            address: None,
            tls: None,
            ae_title,
            peers: Vec::new(),
            max_associations: 64,
            max_pdu_length: 128 << 10,
            max_instance_bytes: dataset::Limits::default().instance_bytes,
            private_sop_classes: vec![SopClassPattern::any()],
            deadlines: Deadlines::default(),
        }
    }

    /// The most connections that the server has open at a time: associations, and those that are none yet. Each is a file
    /// descriptor.
    pub fn most_connections(&self) -> usize {
        most_connections(self)
    }
}

/// A listening service class provider for verification, storage and storage commitment (PS3.4 annexes A, B and J).
#[derive(Debug)]
pub struct Server {
    plain: Option<Listener>,
    tls: Option<Listener>,
    house: House,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    fn bind(address: SocketAddr) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address, source };
        let socket = Self::listen(address).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    fn listen(address: SocketAddr) -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for connections of before.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    }

    /// The next connection; none ever where nobody listens.
    async fn accept(listener: Option<&Self>) -> io::Result<(TcpStream, SocketAddr)> {
        match listener {
            Some(listener) => listener.socket.accept().await,
            None => future::pending().await,
        }
    }
}

impl Server {
    /// Takes the ports. Nobody is served before [`Self::serve`]. Errors with [`Error::Listen`], or
    /// [`Error::Configuration`] for what cannot work.
    pub async fn bind(mut config: ServerConfig) -> Result<Self, Error> {
        if config.peers.is_empty() {
            config.peers.push(Peer::loopback());
        }
        if !(4 << 10..=16 << 20).contains(&config.max_pdu_length) {
            let text =
                format!("a maximum PDU length of {} bytes: it must be from 4096 to 16777216", config.max_pdu_length);
            return Err(Error::Configuration(text));
        }
        if config.address.is_none() && config.tls.is_none() {
            return Err(Error::Configuration(
                "an address to listen on is needed, a plain one or one for TLS".to_owned(),
            ));
        }
        let plain = match config.address {
            Some(address) => Some(Listener::bind(address)?),
            None => None,
        };
        let tls = match &config.tls {
            Some(tls) => Some(Listener::bind(tls.address)?),
            None => None,
        };
        Ok(Self { plain, tls, house: House::new(config) })
    }

    /// Where it listens for plain connections; tells the port that was taken for port 0.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.plain.as_ref().map(|listener| listener.address)
    }

    /// Where it listens for TLS.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls.as_ref().map(|listener| listener.address)
    }

    /// Serves until `stop` is cancelled. Then nobody new is let in, open associations have [`Deadlines::stop`] to end,
    /// and what is open after that is aborted.
    pub async fn serve<S: Sink>(self, sink: Arc<S>, stop: CancellationToken) {
        let Self { plain, tls, house } = self;
        let house = Arc::new(house);
        let mut tasks = JoinSet::new();
        for (listener, over) in [(&plain, "TCP"), (&tls, "TLS")] {
            if let Some(Listener { address, .. }) = listener {
                info!(%address, over, ae_title = %house.config.ae_title, "listening for DICOM associations");
            }
        }
        let mut minute = interval_at(Instant::now() + MINUTE, MINUTE);
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (accepted, secure) = tokio::select! {
                () = stop.cancelled() => break,
                _ = minute.tick() => {
                    house.end_minute();
                    continue;
                }
                Some(ended) = tasks.join_next() => {
                    report_panic(ended);
                    continue;
                }
                accepted = Listener::accept(plain.as_ref()) => (accepted, false),
                accepted = Listener::accept(tls.as_ref()) => (accepted, true),
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
            let visitor = Visitor { socket, address, secure };
            match house.waiting_place(&visitor) {
                Ok(place) => {
                    tasks.spawn(Arc::clone(&house).receive(visitor, place, Arc::clone(&sink), stop.clone()));
                }
                Err(full) => {
                    if let Some(farewell) = house.farewell(visitor, full) {
                        tasks.spawn(farewell);
                    }
                }
            }
        }
        drop((plain, tls));
        house.end_minute();
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
