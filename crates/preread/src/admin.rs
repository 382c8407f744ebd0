//! Health over HTTP, on loopback.

use std::{
    future,
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::{Json, Router, extract::State, http::StatusCode, routing::get, serve::Listener};
use serde_json::{Value, json};
use spool::Spool;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
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
    let health = Router::new().route("/health", get(health)).with_state(Health { spool, last: Arc::default() });
    run(listener, health, stop).await
}

/// Answers that nothing is received, and why, until told to stop.
pub(crate) async fn serve_refusal(listener: TcpListener, why: String, stop: CancellationToken) -> io::Result<()> {
    let answer = move || {
        let status = format!("nothing is received: {why}");
        async move { (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": status }))) }
    };
    run(listener, Router::new().route("/health", get(answer)), stop).await
}

async fn run(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let listener = Bounded { listener, places: Arc::new(Semaphore::new(CONNECTIONS)) };
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// How old an answer may be: whoever asks more often costs the spool nothing.
const FRESH: Duration = Duration::from_secs(1);

/// The spool, and the last answer about it. Held while a new one is made, so that one is made for all who ask.
#[derive(Clone)]
struct Health {
    spool: Spool,
    last: Arc<Mutex<Option<(Instant, Answer)>>>,
}

type Answer = (StatusCode, Value);

/// 200 and how many studies are in each state; 503 when the spool cannot be read, or there is no room to receive.
async fn health(State(health): State<Health>) -> (StatusCode, Json<Value>) {
    let mut last = health.last.lock().await;
    if let Some((at, (status, body))) = &*last
        && at.elapsed() < FRESH
    {
        return (*status, Json(body.clone()));
    }
    let spool = health.spool.clone();
    // Nothing that serves DICOM waits for this.
    let answer = tokio::task::spawn_blocking(move || look(&spool)).await;
    let answer = answer.unwrap_or_else(|_| cannot_be_read(json!({})));
    *last = Some((Instant::now(), answer.clone()));
    (answer.0, Json(answer.1))
}

fn look(spool: &Spool) -> Answer {
    let studies = match spool.count_by_state() {
        Ok(studies) => studies,
        Err(error) => {
            tracing::error!(%error, "the spool cannot be read");
            return cannot_be_read(json!({}));
        }
    };
    match spool.refusal() {
        Ok(None) => (StatusCode::OK, json!({ "status": "ok", "studies": studies })),
        Ok(Some(full)) => {
            let status = format!("nothing is received: {full}");
            (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": status, "studies": studies }))
        }
        Err(error) => {
            tracing::error!(%error, "the spool cannot be read");
            cannot_be_read(json!(studies))
        }
    }
}

fn cannot_be_read(studies: Value) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "the spool cannot be read", "studies": studies }))
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
