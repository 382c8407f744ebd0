use std::{io, net::SocketAddr, path::PathBuf};

use dicom_ul::pdu::{
    AssociationRJ, AssociationRJResult, AssociationRJServiceProviderPresentationReason as PresentationReason,
    AssociationRJServiceUserReason as UserReason, AssociationRJSource,
};

use crate::{client::Destination, tls, wire::WireError};

/// What can go wrong before the first instance, or for an association as a whole. Each says what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another program using the port, or a privilege missing?")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A configured value cannot work.
    #[error("{0}")]
    Configuration(String),
    /// A file of certificates or keys cannot be used.
    #[error("{}: {problem}", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// No connection: wrong address, no listener, a firewall.
    #[error("{0}")]
    Connect(String),
    /// The peer does not want the association now; trying again later may help.
    #[error("{destination} is busy ({reason}): try again later")]
    Busy {
        /// The destination's name and address.
        destination: String,
        /// The peer's reason.
        reason: String,
    },
    /// The peer does not want the association; somebody has to change a configuration.
    #[error("{destination} rejected the association: {reason}")]
    Rejected {
        /// The destination's name and address.
        destination: String,
        /// The peer's reason and what to do.
        reason: String,
    },
    /// The association was accepted, but not for this service.
    #[error("{destination} does not offer {service}")]
    NotOffered {
        /// The destination's name and address.
        destination: String,
        /// The service asked for.
        service: &'static str,
    },
    /// The connection broke, timed out or was aborted; trying again may help.
    #[error("the association with {destination} failed: {what}")]
    Association {
        /// The destination's name and address.
        destination: String,
        /// What happened.
        what: String,
    },
    /// The peer answered with a failure status.
    #[error("{destination} answered {service} with status {status:#06x}")]
    Status {
        /// The destination's name and address.
        destination: String,
        /// The service asked for.
        service: &'static str,
        /// The status (PS3.7 annex C).
        status: u16,
    },
}

impl Error {
    /// A failure of the connection to a destination.
    pub(crate) fn wire(destination: &Destination, error: &WireError) -> Self {
        Self::Association { destination: destination.to_string(), what: error.to_string() }
    }

    /// A connection that did not come about.
    pub(crate) fn connect(destination: &Destination, error: &io::Error) -> Self {
        Self::Connect(match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("connection refused by {destination}: is it listening there?"),
            io::ErrorKind::TimedOut => format!("no answer from {destination}: is it on, and no firewall in between?"),
            _ => format!("cannot connect to {destination}: {error}"),
        })
    }

    /// A TLS handshake that failed.
    pub(crate) fn handshake(destination: &Destination, error: &io::Error) -> Self {
        Self::Connect(format!("no TLS with {destination}: {}", tls::problem(error)))
    }

    /// An A-ASSOCIATE-RJ (PS3.8 table 9-21).
    pub(crate) fn rejected(destination: &Destination, rejection: &AssociationRJ) -> Self {
        let (called, calling) = (&destination.ae_title, &destination.calling_ae_title);
        let busy = |reason: String| Self::Busy { destination: destination.to_string(), reason };
        let reason = match &rejection.source {
            AssociationRJSource::ServiceUser(UserReason::CalledAETitleNotRecognized) => {
                format!("called AE title not recognised: is {called} its AE title?")
            }
            AssociationRJSource::ServiceUser(UserReason::CallingAETitleNotRecognized) => {
                format!(
                    "calling AE title not recognised: add {calling} with this machine's address to the nodes it knows"
                )
            }
            AssociationRJSource::ServiceProviderPresentation(
                reason @ (PresentationReason::TemporaryCongestion | PresentationReason::LocalLimitExceeded),
            ) => return busy(reason.to_string()),
            other if rejection.result == AssociationRJResult::Transient => return busy(other.to_string()),
            other => other.to_string(),
        };
        Self::Rejected { destination: destination.to_string(), reason }
    }
}
