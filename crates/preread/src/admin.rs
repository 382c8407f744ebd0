//! Health over HTTP, on loopback.

use std::{
    collections::BTreeMap,
    future,
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{Json, Router, extract::State, http::StatusCode, routing::get, serve::Listener};
use serde_json::{Value, json};
use spool::Spool;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::config::Admin;

/// Takes the port, so that a port in use is said at start.
pub(crate) async fn bind(admin: Option<&Admin>) -> Result<Option<TcpListener>> {
    let Some(Admin { address }) = admin else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    Ok(Some(listener.with_context(|| format!("admin.address {address}: is another program using the port?"))?))
}

/// Answers until told to stop.
pub(crate) async fn serve(listener: TcpListener, spool: Spool, stop: CancellationToken) -> io::Result<()> {
    let listener = Bounded { listener, places: Arc::new(Semaphore::new(CONNECTIONS)) };
    let router = Router::new().route("/health", get(health)).with_state(spool);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// 200 and how many studies are in each state; 503 when the spool cannot be read.
async fn health(State(spool): State<Spool>) -> (StatusCode, Json<Value>) {
    match spool.studies() {
        Ok(studies) => {
            let mut states = BTreeMap::new();
            for study in studies {
                *states.entry(study.state).or_insert(0_u64) += 1;
            }
            (StatusCode::OK, Json(json!({ "status": "ok", "studies": states })))
        }
        Err(error) => {
            tracing::error!(%error, "the spool cannot be read");
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "the spool cannot be read" })))
        }
    }
}

/// Connections at a time: enough for a load balancer, a metrics server and a person, and few enough to leave the file
/// descriptors to DICOM.
const CONNECTIONS: usize = 32;
/// How long a connection may last, whatever is said on it.
const LONGEST: Duration = Duration::from_secs(10);

/// A listener that lets in so many at a time, and none for ever.
struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

/// A connection that fails when its time is over.
struct Visit {
    stream: TcpStream,
    over: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Listener for Bounded {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        // Nobody closes the semaphore.
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return future::pending().await };
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Visit { stream, over: Box::pin(sleep(LONGEST)), _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Visit {
    fn in_time(&mut self, task: &mut Task<'_>) -> io::Result<()> {
        match self.over.as_mut().poll(task) {
            Poll::Ready(()) => Err(ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Visit {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Task<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.in_time(task)?;
        Pin::new(&mut self.stream).poll_read(task, into)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(task)?;
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
