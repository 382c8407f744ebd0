//! A storage SCP of our own: the destination of reports, which remembers what came when.

use std::{
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use dicom_dictionary_std::uids;
use dicom_ul::{
    association::{
        Association,
        server::{ServerAssociation, ServerAssociationOptions},
    },
    pdu::{AbortRQSource, PDataValue, PDataValueType, Pdu},
};

use crate::{
    command::{C_ECHO_RQ, C_ECHO_RSP, C_STORE_RQ, C_STORE_RSP, Command, NO_DATA_SET, element},
    instance::Instance,
    port::Port,
    wait,
};

/// One C-STORE that was answered.
#[derive(Debug, Clone)]
pub struct Received {
    /// When its last byte was in.
    pub at: Instant,
    /// By which title the sender called itself.
    pub calling_ae_title: String,
    /// What we answered.
    pub status: u16,
    /// What came.
    pub instance: Instance,
}

/// What the SCP does with a C-STORE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Answers with this status.
    Status(u16),
    /// Answers with this status and an Error Comment (0000,0902).
    Comment(u16, &'static str),
    /// Aborts the association without an answer.
    Abort,
}

/// Decides by the instance, and by how many times it came before.
type Script = dyn Fn(&Instance, usize) -> Answer + Send + Sync;

/// A running storage SCP.
pub struct Scp {
    port: Port,
    ae_title: String,
    shared: Arc<Shared>,
}

struct Shared {
    received: Mutex<Vec<Received>>,
    status: AtomicU16,
    script: Mutex<Option<Arc<Script>>>,
    stop: AtomicBool,
}

impl Scp {
    /// Starts to listen on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub fn start(ae_title: &str) -> Result<Self> {
        let port = Port::free()?;
        let listener = TcpListener::bind(("127.0.0.1", port.number()))?;
        let shared = Arc::new(Shared {
            received: Mutex::default(),
            status: AtomicU16::new(0),
            script: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let (title, for_thread) = (ae_title.to_owned(), Arc::clone(&shared));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_thread.stop.load(Ordering::Relaxed) {
                    return;
                }
                let (title, shared) = (title.clone(), Arc::clone(&for_thread));
                // A sender that goes away in the middle is part of what is tested; what it sent whole is kept.
                thread::spawn(move || serve(&title, stream, &shared));
            }
        });
        Ok(Self { port, ae_title: ae_title.to_owned(), shared })
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> String {
        self.port.address()
    }

    /// Its own title.
    pub fn ae_title(&self) -> &str {
        &self.ae_title
    }

    /// Answers every C-STORE from now on with `status`.
    pub fn answer(&self, status: u16) {
        self.shared.status.store(status, Ordering::Relaxed);
    }

    /// Does with every C-STORE from now on what `script` says of the instance, and of how many times it came before. An
    /// abort is noted as status 0xFFFF. A script may take its time.
    pub fn script(&self, script: impl Fn(&Instance, usize) -> Answer + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(script));
    }

    /// Everything that came so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was stored into the study: every instance that was answered with success, in order.
    pub fn stored_in(&self, study_instance_uid: &str) -> Vec<Received> {
        let mut all = self.received();
        all.retain(|one| one.status == 0 && one.instance.study_instance_uid == study_instance_uid);
        all
    }

    /// Waits for the first Basic Text SR in the study.
    ///
    /// # Errors
    /// When none comes within `limit`.
    pub fn text_report(&self, study_instance_uid: &str, limit: Duration) -> Result<Received> {
        wait::until("a report", limit, || {
            let mut stored = self.stored_in(study_instance_uid).into_iter();
            Ok(stored.find(|one| one.instance.sop_class_uid == uids::BASIC_TEXT_SR_STORAGE))
        })
    }
}

impl Shared {
    fn answer(&self, instance: &Instance) -> Answer {
        let script = self.script.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(script) = script else { return Answer::Status(self.status.load(Ordering::Relaxed)) };
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let before = received.iter().filter(|it| it.instance.sop_instance_uid == instance.sop_instance_uid).count();
        drop(received);
        script(instance, before)
    }
}

impl Drop for Scp {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address());
    }
}

fn serve(ae_title: &str, stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut association = ServerAssociationOptions::new()
        .accept_any()
        .ae_title(ae_title)
        .promiscuous(true)
        .read_timeout(Duration::from_secs(60))
        .write_timeout(Duration::from_secs(60))
        .establish(stream)?;
    let (mut command, mut data_set) = (Vec::new(), Vec::new());
    let mut pending = None;
    loop {
        match association.receive()? {
            Pdu::PData { data } => {
                for value in data {
                    let context = value.presentation_context_id;
                    match value.value_type {
                        PDataValueType::Command => command.extend(value.data),
                        PDataValueType::Data => data_set.extend(value.data),
                    }
                    if !value.is_last {
                        continue;
                    }
                    if value.value_type == PDataValueType::Command {
                        let request = Command::decode(&std::mem::take(&mut command))?;
                        match request.get_number(element::COMMAND_FIELD)? {
                            C_ECHO_RQ => respond(&mut association, context, &request, C_ECHO_RSP, 0, None)?,
                            C_STORE_RQ => pending = Some(request),
                            other => bail!("unexpected command {other:04x}"),
                        }
                    } else if let Some(request) = pending.take() {
                        let instance = take(&association, context, &request, std::mem::take(&mut data_set))?;
                        let answer = shared.answer(&instance);
                        let (status, comment) = match answer {
                            Answer::Status(status) => (status, None),
                            Answer::Comment(status, comment) => (status, Some(comment)),
                            Answer::Abort => (0xFFFF, None),
                        };
                        let received = Received {
                            at: Instant::now(),
                            calling_ae_title: association.peer_ae_title().to_owned(),
                            status,
                            instance,
                        };
                        shared.received.lock().unwrap_or_else(PoisonError::into_inner).push(received);
                        if answer == Answer::Abort {
                            let source = AbortRQSource::ServiceUser;
                            return Ok(association.send(&Pdu::AbortRQ { source })?);
                        }
                        respond(&mut association, context, &request, C_STORE_RSP, status, comment)?;
                    }
                }
            }
            Pdu::ReleaseRQ => {
                association.send(&Pdu::ReleaseRP)?;
                return Ok(());
            }
            _ => return Ok(()),
        }
    }
}

fn take(
    association: &ServerAssociation<TcpStream>,
    context: u8,
    request: &Command,
    data_set: Vec<u8>,
) -> Result<Instance> {
    let contexts = association.presentation_contexts();
    let Some(context) = contexts.iter().find(|negotiated| negotiated.id == context) else {
        bail!("presentation context {context} was not negotiated");
    };
    let announced = Instance {
        sop_class_uid: request.get_uid(element::AFFECTED_SOP_CLASS_UID)?,
        sop_instance_uid: request.get_uid(element::AFFECTED_SOP_INSTANCE_UID)?,
        study_instance_uid: String::new(),
        transfer_syntax_uid: context.transfer_syntax.clone(),
        data_set,
    };
    Instance::from_part10(&announced.to_part10()?)
}

fn respond(
    association: &mut ServerAssociation<TcpStream>,
    context: u8,
    request: &Command,
    field: u16,
    status: u16,
    comment: Option<&str>,
) -> Result<()> {
    let mut response = Command::default()
        .uid(element::AFFECTED_SOP_CLASS_UID, &request.get_uid(element::AFFECTED_SOP_CLASS_UID)?)
        .number(element::COMMAND_FIELD, field)
        .number(element::MESSAGE_ID_RESPONDED_TO, request.get_number(element::MESSAGE_ID)?)
        .number(element::DATA_SET_TYPE, NO_DATA_SET)
        .number(element::STATUS, status);
    if let Some(comment) = comment {
        response = response.text(element::ERROR_COMMENT, comment);
    }
    if field == C_STORE_RSP {
        let instance = request.get_uid(element::AFFECTED_SOP_INSTANCE_UID)?;
        response = response.uid(element::AFFECTED_SOP_INSTANCE_UID, &instance);
    }
    let data = vec![PDataValue {
        presentation_context_id: context,
        value_type: PDataValueType::Command,
        is_last: true,
        data: response.encode()?,
    }];
    Ok(association.send(&Pdu::PData { data })?)
}
