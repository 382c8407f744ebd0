//! Health over HTTP, on loopback.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use serde_json::{Value, json};
use spool::Spool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Admin;

/// Takes the port, so that a port in use is said at start.
pub(crate) async fn bind(admin: Option<&Admin>) -> Result<Option<TcpListener>> {
    let Some(Admin { address }) = admin else { return Ok(None) };
    let listener = TcpListener::bind(address).await;
    Ok(Some(listener.with_context(|| format!("admin.address {address}: is another program using the port?"))?))
}

/// Answers until told to stop.
pub(crate) async fn serve(listener: Option<TcpListener>, spool: Spool, stop: CancellationToken) {
    let Some(listener) = listener else { return };
    let router = Router::new().route("/health", get(health)).with_state(spool);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the admin port stopped answering");
    }
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
