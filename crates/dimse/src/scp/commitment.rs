//! Storage commitment on the provider's side of an association: requests are taken, and results are reported as long as
//! the peer stays (PS3.4 annex J).

use std::sync::Arc;

use dataset::TransferSyntax;
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::{Provider, Request};
use crate::{
    CommitmentRequest, Refusal, ReportError, Reporter, Sink,
    command::{CommandSet, element, status},
    commitment::{self, PUSH_MODEL_INSTANCE, REQUEST_COMMITMENT, Report, RequestError},
    negotiation::Service,
    wire::WireError,
};

/// The longest data set of a request: about 30,000 instances.
const MOST_ACTION_INFORMATION: u64 = 4 << 20;
/// Results that wait here while one is on its way. More wait where they come from.
const WAITING: usize = 4;

/// The results that go over this association, one at a time (PS3.7 D.3.3.3: that is what is negotiated).
#[derive(Default)]
pub(super) struct Reports {
    /// There as long as somebody may still have a result to report.
    coming: Option<(mpsc::WeakSender<Report>, mpsc::Receiver<Report>)>,
    unanswered: Option<Unanswered>,
    last_message_id: u16,
}

/// A result that the peer has not confirmed yet.
struct Unanswered {
    message_id: u16,
    deadline: Instant,
    reported: oneshot::Sender<Result<(), ReportError>>,
}

/// What is to be done about results.
pub(super) enum Due {
    /// It is to be sent.
    Report(Report),
    /// The peer did not confirm what was sent.
    Unanswered,
    /// There will be no more of them.
    Nothing,
}

impl Reports {
    /// A way to this association, for the request that came on `context`.
    fn reporter(&mut self, context: u8) -> Reporter {
        if let Some(reports) = self.coming.as_ref().and_then(|(reports, _)| reports.upgrade()) {
            return Reporter::new(reports, context);
        }
        let (reports, coming) = mpsc::channel(WAITING);
        self.coming = Some((reports.downgrade(), coming));
        Reporter::new(reports, context)
    }

    /// Whether a result may still come, or an answer to one.
    pub(super) fn are_expected(&self) -> bool {
        self.coming.is_some()
    }

    /// What is due next; waits as long as that is nothing. Loses nothing when cancelled.
    pub(super) async fn next(&mut self) -> Due {
        if let Some(unanswered) = &self.unanswered {
            sleep_until(unanswered.deadline).await;
            return Due::Unanswered;
        }
        match &mut self.coming {
            Some((_, coming)) => coming.recv().await.map_or(Due::Nothing, Due::Report),
            None => std::future::pending().await,
        }
    }
}

impl<S: Sink> Provider<'_, S> {
    /// N-ACTION (PS3.7 section 10.1.4): a request for storage commitment goes into the sink, and success is answered only
    /// when the sink has it.
    pub(super) async fn action(&mut self, request: &Request) -> Result<(), WireError> {
        let context = self.contexts.get(&request.context);
        let Some(context) = context.filter(|context| Service::of_context(context) == Service::StorageCommitment) else {
            return self.answer_without_data_set(request, status::UNRECOGNIZED_OPERATION).await;
        };
        let syntax = context.transfer_syntax;
        let information = match self.action_information(request).await? {
            Ok(information) => read(information, syntax).await,
            Err(error) => Err(error),
        };
        let taken = match information {
            Ok((transaction_uid, instances)) => {
                let count = instances.len();
                let association = Arc::clone(&self.association);
                let reporter = self.reports.reporter(request.context);
                debug!(transaction = %transaction_uid, instances = count, "storage commitment requested");
                let asked = CommitmentRequest { association, transaction_uid, instances, reporter };
                self.sink.request_commitment(asked).await.map_err(|refusal| refused(&refusal))
            }
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => {
                self.brought.commitments += 1;
                self.answer(request, status::SUCCESS, None).await
            }
            Err(RequestError { status, what }) => {
                warn!(status = format_args!("{status:#06x}"), "request for storage commitment refused: {what}");
                self.answer(request, status, Some(&what)).await
            }
        }
    }

    /// Checks the command and collects its data set, or says what refuses it.
    async fn action_information(&mut self, request: &Request) -> Result<Result<Vec<u8>, RequestError>, WireError> {
        let refused = check(&request.command);
        let mut information = Vec::new();
        let mut received = 0;
        while request.command.has_data_set() {
            let fragment = self.fragment(request, &mut received, MOST_ACTION_INFORMATION).await?;
            let last = fragment.last;
            if refused.is_ok() && !fragment.beyond_limit {
                information.extend_from_slice(fragment.data);
            }
            if last {
                break;
            }
        }
        let too_long = received > MOST_ACTION_INFORMATION;
        Ok(refused.and_then(|()| match too_long {
            true => Err(RequestError::new(status::RESOURCE_LIMITATION, "the request is longer than 4 MiB: split it")),
            false => Ok(information),
        }))
    }

    /// Does what is due about results. A peer that does not answer one may still be there for other requests.
    pub(super) async fn report(&mut self, due: Due) -> Result<(), WireError> {
        match due {
            Due::Nothing => self.reports.coming = None,
            Due::Unanswered => {
                if let Some(unanswered) = self.reports.unanswered.take() {
                    let _ = unanswered.reported.send(Err(ReportError::TimedOut));
                }
            }
            Due::Report(Report { context, result, reported }) => {
                let Some(syntax) = self.contexts.get(&context).map(|context| context.transfer_syntax) else {
                    return Ok(());
                };
                self.reports.last_message_id = self.reports.last_message_id.wrapping_add(1);
                let message_id = self.reports.last_message_id;
                commitment::send(&mut self.wire, context, syntax, message_id, &result).await?;
                let deadline = Instant::now() + self.config.deadlines.idle;
                self.reports.unanswered = Some(Unanswered { message_id, deadline, reported });
            }
        }
        Ok(())
    }

    /// The response to a result (PS3.7 section 10.1.1). One that comes too late, or twice, changes nothing.
    pub(super) async fn report_answered(&mut self, response: &Request) -> Result<(), WireError> {
        if response.command.has_data_set() {
            self.skip(response, &mut 0).await?;
        }
        let answered = response.command.number(element::MESSAGE_ID_BEING_RESPONDED_TO);
        match self.reports.unanswered.take_if(|unanswered| Some(unanswered.message_id) == answered) {
            // Whoever waited for it may be gone.
            Some(unanswered) => drop(unanswered.reported.send(commitment::confirmed(&response.command))),
            None if self.reports.last_message_id > 0 => debug!("late response to a result of storage commitment"),
            None => return Err(WireError::Message("a response came to a request that was never made")),
        }
        Ok(())
    }
}

/// Whether the command asks for storage commitment (PS3.4 J.3.2), or the status that refuses it (PS3.7 10.1.4.1.10).
fn check(command: &CommandSet) -> Result<(), RequestError> {
    let refuse = |status, what: &str| Err(RequestError::new(status, what));
    let class = command.uid(element::REQUESTED_SOP_CLASS_UID);
    if class.is_none_or(|uid| uid.as_str() != commitment::PUSH_MODEL_CLASS) {
        return refuse(status::NO_SUCH_SOP_CLASS, "Requested SOP Class UID is not that of the context");
    }
    match command.uid(element::REQUESTED_SOP_INSTANCE_UID) {
        None => return refuse(status::INVALID_SOP_INSTANCE, "Requested SOP Instance UID is no UID"),
        Some(uid) if uid.as_str() != PUSH_MODEL_INSTANCE => {
            return refuse(status::NO_SUCH_SOP_INSTANCE, "Requested SOP Instance UID is not the well-known one");
        }
        Some(_) => {}
    }
    if command.number(element::ACTION_TYPE_ID) != Some(REQUEST_COMMITMENT) {
        return refuse(status::NO_SUCH_ACTION, "Action Type ID is not 1");
    }
    if !command.has_data_set() {
        return refuse(status::INVALID_ARGUMENT_VALUE, "N-ACTION without a data set");
    }
    Ok(())
}

/// Reads the data set away from the tasks that serve associations: a long one takes a while.
async fn read(
    information: Vec<u8>,
    syntax: TransferSyntax,
) -> Result<(dataset::Uid, Vec<crate::InstanceReference>), RequestError> {
    let failed = |_| RequestError::new(status::PROCESSING_FAILURE, "failed to read the request");
    spawn_blocking(move || commitment::read_request(&information, syntax)).await.map_err(failed)?
}

/// The status of a refusal by the sink.
fn refused(refusal: &Refusal) -> RequestError {
    let status = match refusal {
        Refusal::OutOfResources => status::RESOURCE_LIMITATION,
        Refusal::DataSetMismatch | Refusal::CannotUnderstand(_) => status::INVALID_ARGUMENT_VALUE,
        Refusal::Failed => status::PROCESSING_FAILURE,
    };
    RequestError { status, what: refusal.to_string() }
}
