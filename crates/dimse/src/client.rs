use std::{fmt, io, str::FromStr, time::Duration};

use dicom_dictionary_std::uids;
use dicom_ul::{
    Pdu,
    pdu::{AssociationRQ, PresentationContextProposed, PresentationContextResultReason, UserVariableItem},
};
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use tracing::debug;

use dataset::TransferSyntax;

use crate::{
    AeTitle, Error, Tls,
    command::{CommandSet, element, field, status},
    negotiation::{self, APPLICATION_CONTEXT, Context, Contexts, PROTOCOL_VERSION},
    wire::{COMMAND_LIMIT, Incoming, Socket, Wire, WireError},
};

/// How long each step of a destination may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// For the connection to be made, with the TLS handshake if there is one.
    pub connect: Duration,
    /// For the answer to a request, by which time a slow archive has stored the instance.
    pub response: Duration,
    /// For the destination to take what is sent to it, PDU by PDU.
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), response: Duration::from_secs(60), write: Duration::from_secs(30) }
    }
}

/// An application entity to send to.
#[derive(Debug, Clone)]
pub struct Destination {
    /// What logs and errors call it.
    pub name: String,
    /// Its AE title, by which we call it.
    pub ae_title: AeTitle,
    /// Our AE title, by which we call ourselves.
    pub calling_ae_title: AeTitle,
    /// `host:port`; a name is resolved at each connection.
    pub address: String,
    /// Over TLS, and with which certificates.
    pub tls: Option<DestinationTls>,
    /// How long each step may take.
    pub timeouts: Timeouts,
}

/// How a destination is reached over TLS.
#[derive(Debug, Clone)]
pub struct DestinationTls {
    /// Our certificate, and the authorities that may have issued the destination's.
    pub tls: Tls,
    /// The DNS name or IP address that the destination's certificate must be for, when it is not the one in its address.
    pub server_name: Option<String>,
}

impl Destination {
    /// The AE title that we call ourselves unless told otherwise.
    pub const CALLING_AE_TITLE: &str = "PREREAD";
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name == self.address {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{} ({})", self.name, self.address)
        }
    }
}

impl FromStr for Destination {
    type Err = Error;

    /// Reads `AE@host:port`. Errors with [`Error::Configuration`].
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong =
            |what: &str| Error::Configuration(format!("{text:?} is no destination like PACS@10.1.2.3:104: {what}"));
        let parse_title = |title: &str| title.parse::<AeTitle>().map_err(|error| wrong(&error.to_string()));
        let (title, address) = text.split_once('@').ok_or_else(|| wrong("it has no @"))?;
        let (host, port) = address.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        if host.is_empty() || !port.parse::<u16>().is_ok_and(|port| port != 0) {
            return Err(wrong("it has no host or no valid port"));
        }
        Ok(Self {
            name: address.to_owned(),
            ae_title: parse_title(title)?,
            calling_ae_title: parse_title(Self::CALLING_AE_TITLE)?,
            address: address.to_owned(),
            tls: None,
            timeouts: Timeouts::default(),
        })
    }
}

/// Asks a destination whether it is there (C-ECHO, PS3.7 section 9.1.5).
pub async fn echo(destination: &Destination) -> Result<(), Error> {
    const SERVICE: &str = "verification (C-ECHO)";
    let proposed = [(uids::VERIFICATION.to_owned(), TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN)];
    let mut association = Association::request(destination, &proposed).await?;
    let Some(context) = association.contexts.keys().next().copied() else {
        association.release().await;
        return Err(Error::NotOffered { destination: destination.to_string(), service: SERVICE });
    };
    let request =
        association.request_command(field::C_ECHO_RQ).with_uid(element::AFFECTED_SOP_CLASS_UID, uids::VERIFICATION);
    let answered = async {
        association.wire.send_command(context, &request).await?;
        association.response(context, &request, field::C_ECHO_RSP).await
    };
    match answered.await {
        Ok(response) => {
            association.release().await;
            match response.number(element::STATUS) {
                Some(status::SUCCESS) => Ok(()),
                other => Err(Error::Status {
                    destination: destination.to_string(),
                    service: SERVICE,
                    status: other.unwrap_or(status::PROCESSING_FAILURE),
                }),
            }
        }
        Err(error) => {
            association.abort().await;
            Err(Error::wire(destination, &error))
        }
    }
}

/// The longest P-DATA-TF that a requestor takes: it gets responses only.
const MAX_PDU_LENGTH: u32 = 16 << 10;

/// An association that we requested.
pub(crate) struct Association<'a> {
    pub(crate) wire: Wire,
    pub(crate) contexts: Contexts,
    /// What the acceptor said about itself and about single SOP classes.
    pub(crate) answered: Vec<UserVariableItem>,
    destination: &'a Destination,
    last_message_id: u16,
}

impl<'a> Association<'a> {
    /// Requests an association with one presentation context per pair of abstract and transfer syntax, at most 128: so
    /// that the acceptor's choice says of each whether it takes it.
    pub(crate) async fn request(destination: &'a Destination, proposed: &[(String, &str)]) -> Result<Self, Error> {
        Self::request_with(destination, proposed, Vec::new()).await
    }

    /// The same, saying more about single SOP classes, such as roles (PS3.7 D.3.3.4).
    pub(crate) async fn request_with(
        destination: &'a Destination,
        proposed: &[(String, &str)],
        more: Vec<UserVariableItem>,
    ) -> Result<Self, Error> {
        let wire_error = |error: WireError| Error::wire(destination, &error);
        let socket = connect(destination).await?;
        let mut wire =
            Wire::new(socket, MAX_PDU_LENGTH, destination.timeouts.write).map_err(|error| wire_error(error.into()))?;
        let presentation_contexts: Vec<_> = (1..=u8::MAX)
            .step_by(2)
            .zip(proposed)
            .map(|(id, (abstract_syntax, transfer_syntax))| PresentationContextProposed {
                id,
                abstract_syntax: abstract_syntax.clone(),
                transfer_syntaxes: vec![(*transfer_syntax).to_owned()],
            })
            .collect();
        let request = Pdu::AssociationRQ(AssociationRQ {
            protocol_version: PROTOCOL_VERSION,
            calling_ae_title: destination.calling_ae_title.to_string(),
            called_ae_title: destination.ae_title.to_string(),
            application_context_name: APPLICATION_CONTEXT.to_owned(),
            presentation_contexts: presentation_contexts.clone(),
            user_variables: negotiation::user_variables(MAX_PDU_LENGTH).into_iter().chain(more).collect(),
        });
        wire.send_pdu(&request).await.map_err(wire_error)?;
        let waiting_for = "no answer to the association request came in time";
        let deadline = Instant::now() + destination.timeouts.response;
        let accepted = match wire.read_pdu(deadline, waiting_for).await.map_err(wire_error)? {
            Pdu::AssociationAC(accepted) => accepted,
            Pdu::AssociationRJ(rejection) => return Err(Error::rejected(destination, &rejection)),
            _ => {
                wire.abort(None).await;
                return Err(wire_error(WireError::Protocol("the association request was answered with another PDU")));
            }
        };
        wire.established(negotiation::max_length(&accepted.user_variables));
        let mut contexts = Contexts::new();
        for result in accepted.presentation_contexts {
            let asked = presentation_contexts.iter().find(|asked| asked.id == result.id);
            let Some(asked) = asked.filter(|_| result.reason == PresentationContextResultReason::Acceptance) else {
                continue;
            };
            let Ok(transfer_syntax) = TransferSyntax::from_uid(&result.transfer_syntax) else { continue };
            if asked.transfer_syntaxes.iter().any(|uid| uid == transfer_syntax.uid()) {
                contexts.insert(result.id, Context { abstract_syntax: asked.abstract_syntax.clone(), transfer_syntax });
            }
        }
        debug!(%destination, contexts = contexts.len(), "association accepted");
        Ok(Self { wire, contexts, answered: accepted.user_variables, destination, last_message_id: 0 })
    }

    /// A request with the next message ID.
    pub(crate) fn request_command(&mut self, command_field: u16) -> CommandSet {
        self.last_message_id = self.last_message_id.wrapping_add(1);
        CommandSet::new(command_field).with_number(element::MESSAGE_ID, self.last_message_id)
    }

    /// The response to a request, which is the only one outstanding.
    pub(crate) async fn response(
        &mut self,
        context: u8,
        request: &CommandSet,
        command_field: u16,
    ) -> Result<CommandSet, WireError> {
        let deadline = Instant::now() + self.destination.timeouts.response;
        let mut bytes = Vec::new();
        loop {
            let value = match self.wire.next(deadline, "no response came in time").await? {
                Incoming::Value(value) if value.command && value.context == context => value,
                _ => return Err(WireError::Protocol("something else came in place of the response")),
            };
            if bytes.len() + value.data.len() > COMMAND_LIMIT {
                return Err(WireError::Protocol("a response is longer than 64 KiB"));
            }
            bytes.extend_from_slice(value.data);
            if value.last {
                break;
            }
        }
        let response = CommandSet::parse(&bytes).ok_or(WireError::Protocol("a response cannot be parsed"))?;
        let answers = response.command_field() == Some(command_field)
            && response.number(element::MESSAGE_ID_BEING_RESPONDED_TO) == request.number(element::MESSAGE_ID);
        if answers { Ok(response) } else { Err(WireError::Protocol("a response to another request came")) }
    }

    /// Releases the association (PS3.8 section 7.2). What it was for is done, so that a failure changes nothing.
    pub(crate) async fn release(mut self) {
        let released = async {
            self.wire.send_pdu(&Pdu::ReleaseRQ).await?;
            let deadline = Instant::now() + self.destination.timeouts.response.min(Duration::from_secs(5));
            match self.wire.next(deadline, "the release was not answered in time").await? {
                Incoming::ReleaseResponse => Ok(()),
                // Both asked at the same time (PS3.8 section 7.2.2.7).
                Incoming::ReleaseRequest => self.wire.send_pdu(&Pdu::ReleaseRP).await,
                Incoming::Value(_) => Err(WireError::Protocol("a message came after the release request")),
            }
        };
        if let Err(error) = released.await {
            debug!(destination = %self.destination, "association not released properly: {error}");
        }
    }

    /// Aborts the association, so that what was begun on it is not taken for complete.
    pub(crate) async fn abort(mut self) {
        self.wire.abort(None).await;
    }
}

async fn connect(destination: &Destination) -> Result<Socket, Error> {
    let deadline = Instant::now() + destination.timeouts.connect;
    let connected = timeout_at(deadline, TcpStream::connect(destination.address.as_str())).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let socket = connected.map_err(|error| Error::connect(destination, &error))?;
    let Some(DestinationTls { tls, server_name }) = &destination.tls else { return Ok(Socket::Plain(socket)) };
    let host = destination.address.rsplit_once(':').map_or(destination.address.as_str(), |(host, _)| host);
    let name = server_name.as_deref().unwrap_or(host).trim_start_matches('[').trim_end_matches(']');
    let server_name = ServerName::try_from(name.to_owned()).map_err(|_| {
        Error::Configuration(format!("{destination}: {name:?} is no name that a certificate can be for"))
    })?;
    let shaken = timeout_at(deadline, TlsConnector::from(tls.client()).connect(server_name, socket)).await;
    match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => Ok(Socket::Tls(Box::new(stream.into()))),
        Err(error) => Err(Error::handshake(destination, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read() {
        let destination: Destination = "PACS@10.1.2.3:104".parse().unwrap();
        assert_eq!((destination.ae_title.as_str(), destination.address.as_str()), ("PACS", "10.1.2.3:104"));
        assert_eq!("MY PACS@[::1]:11112".parse::<Destination>().unwrap().address, "[::1]:11112");
        for bad in ["", "PACS", "PACS@host", "PACS@:104", "PACS@host:0", "PACS@host:port", "@host:104", "A\\B@host:104"]
        {
            assert!(bad.parse::<Destination>().unwrap_err().to_string().contains("like PACS@10.1.2.3:104"), "{bad}");
        }
    }
}
