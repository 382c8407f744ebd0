//! The provider's side of an association: what comes is told apart, answered, or ends the association (PS3.7 section 9).

mod commitment;
mod store;

use std::sync::Arc;

use dicom_ul::{Pdu, pdu::AbortRQServiceProviderReason};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    AssociationInfo, ServerConfig, Sink,
    command::{CommandSet, field, status},
    negotiation::Contexts,
    wire::{COMMAND_LIMIT, Incoming, Wire, WireError},
};

/// One association, as provider.
pub(crate) struct Provider<'a, S: Sink> {
    wire: Wire,
    contexts: Contexts,
    config: &'a ServerConfig,
    sink: &'a S,
    association: Arc<AssociationInfo>,
    reports: commitment::Reports,
    brought: Brought,
}

/// What a peer brought on an association.
#[derive(Debug, Clone, Copy, Default)]
struct Brought {
    stored: u64,
    refused: u64,
    /// Requests for storage commitment that were taken.
    commitments: u64,
}

/// A command and where it came.
struct Request {
    context: u8,
    command: CommandSet,
    /// Until when the whole message has to be here.
    deadline: Instant,
}

/// A piece of a request's data set.
struct Fragment<'a> {
    data: &'a [u8],
    last: bool,
    /// The data set is longer than it may be, by now.
    beyond_limit: bool,
}

const WAITING_FOR_COMMAND: &str = "the peer was idle for too long";
const WAITING_FOR_FRAGMENT: &str = "the rest of a message did not come in time";

impl Brought {
    /// How much it was, of so many studies if that is known, and whose it was not; nothing when it was nothing.
    fn in_words(self, studies: Option<usize>) -> Option<String> {
        let counted = |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        let of_studies = match studies {
            Some(1) => " of 1 study".to_owned(),
            Some(studies) if studies > 1 => format!(" of {studies} studies"),
            _ => String::new(),
        };
        let stored = counted(self.stored, "instance", "instances") + &of_studies;
        let parts = [
            (self.stored, stored),
            (self.refused, counted(self.refused, "instance refused", "instances refused")),
            (
                self.commitments,
                counted(self.commitments, "request for storage commitment", "requests for storage commitment"),
            ),
        ];
        let parts: Vec<_> = parts.into_iter().filter(|(count, _)| *count > 0).map(|(_, words)| words).collect();
        if parts.is_empty() { None } else { Some(parts.join(", ")) }
    }
}

impl<'a, S: Sink> Provider<'a, S> {
    pub(crate) fn new(
        wire: Wire,
        contexts: Contexts,
        config: &'a ServerConfig,
        sink: &'a S,
        association: Arc<AssociationInfo>,
    ) -> Self {
        let reports = commitment::Reports::default();
        Self { wire, contexts, config, sink, association, reports, brought: Brought::default() }
    }

    /// Serves the association to its end, which is one line in the log where it brought something or went wrong.
    pub(crate) async fn serve(&mut self, abort: &CancellationToken) {
        let ended = tokio::select! {
            () = abort.cancelled() => None,
            ended = self.messages() => Some(ended),
        };
        let Brought { stored, refused, .. } = self.brought;
        match ended {
            None => {
                warn!(stored, refused, "association aborted: the server stops");
                self.wire.abort(None).await;
            }
            Some(Ok(())) => match self.sink.releasing(&self.association).await {
                Ok(()) => {
                    match self.brought.in_words(self.sink.studies(&self.association)) {
                        Some(brought) => info!("association released: {brought}"),
                        // What a PACS that looks whether we are there does every minute.
                        None => debug!("association released"),
                    }
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
            WireError::NotDicom(_) => Some(AbortRQServiceProviderReason::UnrecognizedPdu),
            WireError::Unexpected(_) => Some(AbortRQServiceProviderReason::UnexpectedPdu),
            WireError::TooLong { .. } | WireError::Protocol(_) => {
                Some(AbortRQServiceProviderReason::InvalidPduParameter)
            }
            WireError::TimedOut(_) => Some(AbortRQServiceProviderReason::ReasonNotSpecified),
            // The upper layer is fine; it is its user that cannot go on.
            WireError::Message(_) => None,
        };
        self.wire.abort(reason).await;
    }

    /// Answers message after message until the peer releases the association.
    async fn messages(&mut self) -> Result<(), WireError> {
        while let Some(request) = self.next_request().await? {
            let Some(field) = request.command.command_field() else {
                return Err(WireError::Message("a command without Command Field (0000,0100) came"));
            };
            match field {
                field::C_ECHO_RQ => self.answer_without_data_set(&request, status::SUCCESS).await?,
                field::C_STORE_RQ => self.store(&request).await?,
                field::N_ACTION_RQ => self.action(&request).await?,
                field::N_EVENT_REPORT_RSP => self.report_answered(&request).await?,
                // Nothing here takes long enough to be cancelled, and a cancel has no response of its own.
                field::C_CANCEL_RQ => debug!("C-CANCEL ignored"),
                response if response & field::RESPONSE != 0 => {
                    return Err(WireError::Message("a response came to a request that was never made"));
                }
                other => {
                    warn!(
                        field = format_args!("{other:#06x}"),
                        "operation refused: only verification, storage and storage commitment are offered"
                    );
                    self.answer_without_data_set(&request, status::UNRECOGNIZED_OPERATION).await?;
                }
            }
        }
        Ok(())
    }

    /// Collects the fragments of a command. `None` when the peer asks for release instead. Before the first fragment,
    /// results of storage commitment are reported.
    async fn next_request(&mut self) -> Result<Option<Request>, WireError> {
        let mut bytes = Vec::new();
        let mut of_context = None;
        let mut deadline = self.idle_deadline();
        loop {
            let waiting_for = if of_context.is_none() { WAITING_FOR_COMMAND } else { WAITING_FOR_FRAGMENT };
            let incoming = tokio::select! {
                biased;
                due = self.reports.next(), if of_context.is_none() => Err(due),
                incoming = self.wire.next(deadline, waiting_for) => Ok(incoming?),
            };
            let value = match incoming {
                Ok(Incoming::Value(value)) => value,
                Ok(Incoming::ReleaseRequest) if of_context.is_none() => return Ok(None),
                Ok(_) => return Err(WireError::Unexpected("a release came in the middle of a command")),
                Err(due) => {
                    self.report(due).await?;
                    deadline = self.idle_deadline();
                    continue;
                }
            };
            if !value.command {
                return Err(WireError::Message("a data set came without a command"));
            }
            if !self.contexts.contains_key(&value.context) {
                return Err(WireError::Protocol("a command came on a presentation context that was not accepted"));
            }
            if of_context.is_none() {
                // The idle time is over with the first fragment.
                deadline = Instant::now() + self.config.deadlines.idle;
            }
            if *of_context.get_or_insert(value.context) != value.context {
                return Err(WireError::Message("a command changed its presentation context"));
            }
            if bytes.len() + value.data.len() > COMMAND_LIMIT {
                return Err(WireError::Message("a command is longer than 64 KiB"));
            }
            bytes.extend_from_slice(value.data);
            if value.last {
                let command = CommandSet::parse(&bytes).ok_or(WireError::Message("a command set cannot be parsed"))?;
                let deadline = Instant::now() + self.config.deadlines.message;
                return Ok(Some(Request { context: value.context, command, deadline }));
            }
        }
    }

    /// Until when something must come. A peer that waits for a result is not idle.
    fn idle_deadline(&self) -> Instant {
        let deadlines = &self.config.deadlines;
        Instant::now()
            + if self.reports.are_expected() { deadlines.message.max(deadlines.idle) } else { deadlines.idle }
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
            .ok_or(WireError::Message("a request without Message ID (0000,0110) came"))?;
        if let Some(comment) = comment {
            response = response.with_comment(comment);
        }
        self.wire.send_command(request.context, &response).await
    }

    /// Reads past a data set, or the rest of one: DIMSE has no way to stop the sender short of an abort.
    async fn skip(&mut self, request: &Request, received: &mut u64) -> Result<(), WireError> {
        let limit = self.config.max_instance_bytes;
        while !self.fragment(request, received, limit).await?.last {}
        Ok(())
    }

    /// The next fragment of the request's data set. What is beyond the limit may still be read past, up to as much again
    /// as the longest instance.
    async fn fragment(&mut self, request: &Request, received: &mut u64, limit: u64) -> Result<Fragment<'_>, WireError> {
        let deadline = request.deadline.min(Instant::now() + self.config.deadlines.idle);
        let Incoming::Value(value) = self.wire.next(deadline, WAITING_FOR_FRAGMENT).await? else {
            return Err(WireError::Unexpected("a release came in the middle of a data set"));
        };
        if value.command || value.context != request.context {
            return Err(WireError::Message("another message came in the middle of a data set"));
        }
        *received += value.data.len() as u64;
        if *received > self.config.max_instance_bytes.saturating_mul(2) {
            return Err(WireError::Message("a data set is longer than twice the limit for one instance"));
        }
        Ok(Fragment { data: value.data, last: value.last, beyond_limit: *received > limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_association_brought_is_counted_in_words() {
        let check = |(stored, refused, commitments), studies, expected: Option<&str>| {
            let brought = Brought { stored, refused, commitments };
            assert_eq!(brought.in_words(studies).as_deref(), expected);
        };
        check((0, 0, 0), None, None);
        check((0, 0, 0), Some(0), None);
        check((12, 0, 0), Some(1), Some("12 instances of 1 study"));
        check((1, 0, 0), None, Some("1 instance"));
        check((3, 1, 0), Some(2), Some("3 instances of 2 studies, 1 instance refused"));
        check((0, 2, 0), Some(0), Some("2 instances refused"));
        check((0, 0, 1), None, Some("1 request for storage commitment"));
    }
}
