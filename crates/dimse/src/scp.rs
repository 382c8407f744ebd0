//! The provider's side of an association: verification and storage (PS3.4 annexes A and B; PS3.7 section 9).

use std::sync::Arc;

use dicom_ul::{Pdu, pdu::AbortRQServiceProviderReason};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    AssociationInfo, IncomingInstance, InstanceInfo, Refusal, ServerConfig, Sink,
    command::{CommandSet, element, field, status},
    negotiation::{Contexts, is_storage_class},
    wire::{COMMAND_LIMIT, Incoming, Value, Wire, WireError},
};

/// One association, as provider.
pub(crate) struct Provider<'a, S: Sink> {
    wire: Wire,
    contexts: Contexts,
    config: &'a ServerConfig,
    sink: &'a S,
    association: Arc<AssociationInfo>,
    stored: u64,
    refused: u64,
}

/// A command and where it came.
struct Request {
    context: u8,
    command: CommandSet,
    /// Until when the whole message has to be here.
    deadline: Instant,
}

const WAITING_FOR_COMMAND: &str = "the peer was idle for too long";
const WAITING_FOR_FRAGMENT: &str = "the rest of a message did not come in time";

impl<'a, S: Sink> Provider<'a, S> {
    pub(crate) fn new(
        wire: Wire,
        contexts: Contexts,
        config: &'a ServerConfig,
        sink: &'a S,
        association: Arc<AssociationInfo>,
    ) -> Self {
        Self { wire, contexts, config, sink, association, stored: 0, refused: 0 }
    }

    /// Serves the association to its end, which is one line in the log.
    pub(crate) async fn serve(&mut self, abort: &CancellationToken) {
        let ended = tokio::select! {
            () = abort.cancelled() => None,
            ended = self.messages() => Some(ended),
        };
        let (stored, refused) = (self.stored, self.refused);
        match ended {
            None => {
                warn!(stored, refused, "association aborted: the server stops");
                self.wire.abort(None).await;
            }
            Some(Ok(())) => match self.sink.releasing(&self.association).await {
                Ok(()) => {
                    info!(stored, refused, "association released");
                    if self.wire.send_pdu(&Pdu::ReleaseRP).await.is_ok() {
                        self.wire.close().await;
                    }
                }
                Err(refusal) => {
                    warn!(stored, refused, "association aborted in place of its release: {refusal}");
                    self.wire.abort(None).await;
                }
            },
            Some(Err(error)) => {
                warn!(stored, refused, "association ended: {error}");
                self.abort_for(&error).await;
            }
        }
    }

    /// Aborts where there is still somebody to tell (PS3.8 table 9-26).
    async fn abort_for(&mut self, error: &WireError) {
        let reason = match error {
            WireError::Closed | WireError::Cut | WireError::Aborted(_) | WireError::Io(_) => return,
            WireError::NotDicom(_) => AbortRQServiceProviderReason::UnrecognizedPdu,
            WireError::TooLong { .. } => AbortRQServiceProviderReason::InvalidPduParameter,
            WireError::Protocol(_) => AbortRQServiceProviderReason::UnexpectedPduParameter,
            WireError::TimedOut(_) => AbortRQServiceProviderReason::ReasonNotSpecified,
        };
        self.wire.abort(Some(reason)).await;
    }

    /// Answers message after message until the peer releases the association.
    async fn messages(&mut self) -> Result<(), WireError> {
        while let Some(request) = self.next_request().await? {
            let Some(field) = request.command.command_field() else {
                return Err(WireError::Protocol("a command without Command Field (0000,0100) came"));
            };
            match field {
                field::C_ECHO_RQ => self.answer_without_data_set(&request, status::SUCCESS).await?,
                field::C_STORE_RQ => self.store(&request).await?,
                // Nothing here takes long enough to be cancelled, and a cancel has no response of its own.
                field::C_CANCEL_RQ => debug!("C-CANCEL ignored"),
                response if response & field::RESPONSE != 0 => {
                    return Err(WireError::Protocol("a response came to a request that was never made"));
                }
                other => {
                    warn!(
                        field = format_args!("{other:#06x}"),
                        "operation refused: only C-ECHO and C-STORE are offered"
                    );
                    self.answer_without_data_set(&request, status::UNRECOGNIZED_OPERATION).await?;
                }
            }
        }
        Ok(())
    }

    /// Collects the fragments of a command. `None` when the peer asks for release instead.
    async fn next_request(&mut self) -> Result<Option<Request>, WireError> {
        let mut bytes = Vec::new();
        let mut of_context = None;
        let mut deadline = Instant::now() + self.config.deadlines.idle;
        let mut waiting_for = WAITING_FOR_COMMAND;
        loop {
            let value = match self.wire.next(deadline, waiting_for).await? {
                Incoming::Value(value) => value,
                Incoming::ReleaseRequest if of_context.is_none() => return Ok(None),
                _ => return Err(WireError::Protocol("a release came in the middle of a command")),
            };
            if !value.command {
                return Err(WireError::Protocol("a data set came without a command"));
            }
            if !self.contexts.contains_key(&value.context) {
                return Err(WireError::Protocol("a command came on a presentation context that was not accepted"));
            }
            if *of_context.get_or_insert(value.context) != value.context {
                return Err(WireError::Protocol("a command changed its presentation context"));
            }
            if bytes.len() + value.data.len() > COMMAND_LIMIT {
                return Err(WireError::Protocol("a command is longer than 64 KiB"));
            }
            bytes.extend_from_slice(value.data);
            if waiting_for == WAITING_FOR_COMMAND {
                // The idle time is over with the first fragment.
                deadline = Instant::now() + self.config.deadlines.idle;
                waiting_for = WAITING_FOR_FRAGMENT;
            }
            if value.last {
                let command = CommandSet::parse(&bytes).ok_or(WireError::Protocol("a command set cannot be parsed"))?;
                let deadline = Instant::now() + self.config.deadlines.message;
                return Ok(Some(Request { context: value.context, command, deadline }));
            }
        }
    }

    /// Answers, after reading past the data set of the request if it has one.
    async fn answer_without_data_set(&mut self, request: &Request, status: u16) -> Result<(), WireError> {
        if request.command.has_data_set() {
            self.skip(request, &mut 0).await?;
        }
        self.answer(request, status, None).await
    }

    async fn answer(&mut self, request: &Request, status: u16, comment: Option<&str>) -> Result<(), WireError> {
        let mut response = CommandSet::answering(&request.command, status)
            .ok_or(WireError::Protocol("a request without Message ID (0000,0110) came"))?;
        if let Some(comment) = comment {
            response = response.with_comment(comment);
        }
        self.wire.send_command(request.context, &response).await
    }

    /// C-STORE (PS3.7 section 9.1.1): into the sink, and success only when the sink has it.
    async fn store(&mut self, request: &Request) -> Result<(), WireError> {
        if !request.command.has_data_set() {
            self.refused += 1;
            return self.answer(request, status::CANNOT_UNDERSTAND, Some("C-STORE without a data set")).await;
        }
        let begun = match self.instance_info(request) {
            Ok(info) => self.sink.begin(info).await.map_err(|refusal| refused(&refusal)),
            Err(status) => Err((status, None)),
        };
        let outcome = match begun {
            Ok(instance) => self.receive(request, instance).await?.map_err(|refusal| refused(&refusal)),
            Err(refused) => {
                self.skip(request, &mut 0).await?;
                Err(refused)
            }
        };
        match outcome {
            Ok(()) => {
                self.stored += 1;
                self.answer(request, status::SUCCESS, None).await
            }
            Err((status, comment)) => {
                self.refused += 1;
                warn!(status = format_args!("{status:#06x}"), reason = comment, "instance refused");
                self.answer(request, status, comment.as_deref()).await
            }
        }
    }

    /// What the command announces, or the status that refuses it.
    fn instance_info(&self, request: &Request) -> Result<InstanceInfo, u16> {
        let class = request.command.uid(element::AFFECTED_SOP_CLASS_UID);
        let sop_class_uid =
            class.filter(|uid| is_storage_class(uid.as_str())).ok_or(status::SOP_CLASS_NOT_SUPPORTED)?;
        // Whether it is also the abstract syntax of the context is not asked: senders get that wrong and nothing
        // depends on it, for the data set itself is checked against the command.
        let instance = request.command.uid(element::AFFECTED_SOP_INSTANCE_UID);
        let context = self.contexts.get(&request.context).ok_or(status::SOP_CLASS_NOT_SUPPORTED)?;
        Ok(InstanceInfo {
            association: Arc::clone(&self.association),
            sop_class_uid,
            sop_instance_uid: instance.ok_or(status::INVALID_SOP_INSTANCE)?,
            transfer_syntax: context.transfer_syntax,
        })
    }

    /// Streams a data set into an instance and commits it. Once it refuses, the rest is read past.
    async fn receive(
        &mut self,
        request: &Request,
        mut instance: S::Instance,
    ) -> Result<Result<(), Refusal>, WireError> {
        let mut received = 0;
        loop {
            let value = self.fragment(request, &mut received).await?;
            let last = value.last;
            if let Err(refusal) = instance.write(value.data).await {
                // What it holds is free while the rest comes.
                drop(instance);
                if !last {
                    self.skip(request, &mut received).await?;
                }
                return Ok(Err(refusal));
            }
            if last {
                return Ok(instance.commit().await);
            }
        }
    }

    /// Reads past a data set, or the rest of one: DIMSE has no way to stop the sender short of an abort.
    async fn skip(&mut self, request: &Request, received: &mut u64) -> Result<(), WireError> {
        while !self.fragment(request, received).await?.last {}
        Ok(())
    }

    /// The next fragment of the request's data set.
    async fn fragment(&mut self, request: &Request, received: &mut u64) -> Result<Value<'_>, WireError> {
        let deadline = request.deadline.min(Instant::now() + self.config.deadlines.idle);
        let Incoming::Value(value) = self.wire.next(deadline, WAITING_FOR_FRAGMENT).await? else {
            return Err(WireError::Protocol("a release came in the middle of a data set"));
        };
        if value.command || value.context != request.context {
            return Err(WireError::Protocol("another message came in the middle of a data set"));
        }
        *received += value.data.len() as u64;
        if *received > self.config.max_instance_bytes {
            return Err(WireError::Protocol("a data set is longer than the limit for one instance"));
        }
        Ok(value)
    }
}

/// The status for a refusal (PS3.4 table B.2-1), and the Error Comment.
fn refused(refusal: &Refusal) -> (u16, Option<String>) {
    let status = match refusal {
        Refusal::OutOfResources => status::OUT_OF_RESOURCES,
        Refusal::DataSetMismatch => status::DATA_SET_DOES_NOT_MATCH,
        Refusal::CannotUnderstand(_) => status::CANNOT_UNDERSTAND,
        Refusal::Failed => status::PROCESSING_FAILURE,
    };
    (status, Some(refusal.to_string()))
}
