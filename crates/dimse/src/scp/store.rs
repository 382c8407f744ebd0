//! C-STORE (PS3.4 annex B).

use std::sync::Arc;

use tracing::warn;

use super::{Provider, Request};
use crate::{
    IncomingInstance, InstanceInfo, Refusal, Sink,
    command::{element, status},
    negotiation::is_storage_class,
    wire::WireError,
};

impl<S: Sink> Provider<'_, S> {
    /// C-STORE (PS3.7 section 9.1.1): into the sink, and success only when the sink has it.
    pub(super) async fn store(&mut self, request: &Request) -> Result<(), WireError> {
        if !request.command.has_data_set() {
            self.brought.refused += 1;
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
                self.brought.stored += 1;
                self.answer(request, status::SUCCESS, None).await
            }
            Err((status, comment)) => {
                self.brought.refused += 1;
                warn!(status = format_args!("{status:#06x}"), reason = comment, "instance refused");
                self.answer(request, status, comment.as_deref()).await
            }
        }
    }

    /// What the command announces, or the status that refuses it.
    fn instance_info(&self, request: &Request) -> Result<InstanceInfo, u16> {
        let private = &self.config.private_sop_classes;
        let class = request.command.uid(element::AFFECTED_SOP_CLASS_UID);
        let sop_class_uid =
            class.filter(|uid| is_storage_class(uid.as_str(), private)).ok_or(status::SOP_CLASS_NOT_SUPPORTED)?;
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
        let limit = self.config.max_instance_bytes;
        let mut received = 0;
        loop {
            let value = self.fragment(request, &mut received, limit).await?;
            let last = value.last;
            let written = match value.beyond_limit {
                false => instance.write(value.data).await,
                // Not "out of resources": the sender would try again, for ever.
                true => Err(Refusal::CannotUnderstand(format!("longer than the limit of {limit} bytes"))),
            };
            if let Err(refusal) = written {
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
}

/// The status for a refusal (PS3.4 table B.2-1), and the Error Comment.
fn refused(refusal: &Refusal) -> (u16, Option<String>) {
    let status = match refusal {
        // What failed here may work later, and that is what the peer is to know.
        Refusal::OutOfResources | Refusal::Failed => status::OUT_OF_RESOURCES,
        Refusal::DataSetMismatch => status::DATA_SET_DOES_NOT_MATCH,
        Refusal::CannotUnderstand(_) => status::CANNOT_UNDERSTAND,
    };
    (status, Some(refusal.to_string()))
}
