//! A storage SCP that takes whatever is proposed, parses nothing, and remembers what came: what a sender put on the wire.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use dicom_ul::pdu::{
    AssociationAC, AssociationRQ, DEFAULT_MAX_PDU, MAXIMUM_PDU_SIZE, PDataValue, PDataValueType, Pdu,
    PresentationContextResult, PresentationContextResultReason, UserVariableItem, read_pdu, write_pdu,
};

use crate::{
    command::{C_ECHO_RQ, C_ECHO_RSP, C_STORE_RQ, C_STORE_RSP, Command, NO_DATA_SET, element},
    instance::Instance,
    port::Port,
};

/// A running recorder. Of each presentation context it accepts the first transfer syntax.
pub struct Recorder {
    port: Port,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    came: Mutex<Vec<Instance>>,
    stop: AtomicBool,
}

impl Recorder {
    /// Starts to listen on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub fn start() -> Result<Self> {
        let port = Port::free()?;
        let listener = TcpListener::bind(("127.0.0.1", port.number()))?;
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_thread.stop.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&for_thread);
                thread::spawn(move || {
                    let keep = |instance| shared.came.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
                    if let Err(error) = serve(stream, DEFAULT_MAX_PDU, Some(&keep)) {
                        eprintln!("recorder: {error:#}");
                    }
                });
            }
        });
        Ok(Self { port, shared })
    }

    /// Where it listens, as a number.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Everything that came so far and was answered with success, in order. The UIDs are the command's; the study is
    /// empty, because the data set has not been looked at.
    pub fn came(&self) -> Vec<Instance> {
        self.shared.came.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers everything that comes to `port` with success and keeps nothing, until the process is ended: what is left of a
/// sender's time when the receiver takes none.
///
/// # Errors
/// When it cannot listen.
pub fn discard(port: u16) -> Result<()> {
    const MAX_PDU: u32 = 128 << 10;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            if let Err(error) = serve(stream, MAX_PDU, None) {
                eprintln!("discarding: {error:#}");
            }
        });
    }
    Ok(())
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.port.address());
    }
}

fn serve(mut stream: TcpStream, max_pdu: u32, keep: Option<&dyn Fn(Instance)>) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let Some(Pdu::AssociationRQ(request)) = receive(&mut stream)? else { bail!("no A-ASSOCIATE-RQ") };
    let contexts = accept(&mut stream, request, max_pdu)?;
    let (mut command, mut data_set, mut pending) = (Vec::new(), Vec::new(), None);
    loop {
        let data = match receive(&mut stream)? {
            Some(Pdu::PData { data }) => data,
            Some(Pdu::ReleaseRQ) => return Ok(write_pdu(&mut stream, &Pdu::ReleaseRP)?),
            _ => return Ok(()),
        };
        for value in data {
            match value.value_type {
                PDataValueType::Command => command.extend(value.data),
                PDataValueType::Data if keep.is_some() => data_set.extend(value.data),
                PDataValueType::Data => {}
            }
            if !value.is_last {
                continue;
            }
            let context = value.presentation_context_id;
            if value.value_type == PDataValueType::Command {
                let request = Command::decode(&std::mem::take(&mut command))?;
                match request.get_number(element::COMMAND_FIELD)? {
                    C_ECHO_RQ => respond(&mut stream, context, &request, C_ECHO_RSP)?,
                    C_STORE_RQ => pending = Some(request),
                    other => bail!("unexpected command {other:04x}"),
                }
            } else if let Some(request) = pending.take() {
                let transfer_syntax = contexts.iter().find(|(id, _)| *id == context);
                let instance = Instance {
                    sop_class_uid: request.get_uid(element::AFFECTED_SOP_CLASS_UID)?,
                    sop_instance_uid: request.get_uid(element::AFFECTED_SOP_INSTANCE_UID)?,
                    study_instance_uid: String::new(),
                    transfer_syntax_uid: transfer_syntax.context("a context that was not accepted")?.1.clone(),
                    data_set: std::mem::take(&mut data_set),
                };
                if let Some(keep) = keep {
                    keep(instance);
                }
                respond(&mut stream, context, &request, C_STORE_RSP)?;
            }
        }
    }
}

/// The next PDU; none when the peer has closed the connection.
fn receive(stream: &mut TcpStream) -> Result<Option<Pdu>> {
    let mut bytes = vec![0; 6];
    if stream.read(&mut bytes[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut bytes[1..])?;
    let length = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
    ensure!(length <= MAXIMUM_PDU_SIZE, "a PDU of {length} bytes");
    bytes.resize(6 + length as usize, 0);
    stream.read_exact(&mut bytes[6..])?;
    Ok(read_pdu(bytes.as_slice(), MAXIMUM_PDU_SIZE, false)?)
}

/// Accepts every context; returns their transfer syntaxes by ID.
fn accept(stream: &mut TcpStream, request: AssociationRQ, max_pdu: u32) -> Result<Vec<(u8, String)>> {
    let first = |syntaxes: &[String]| {
        syntaxes.first().map(|uid| uid.trim_end_matches(['\0', ' ']).to_owned()).unwrap_or_default()
    };
    let contexts: Vec<(u8, String)> =
        request.presentation_contexts.iter().map(|context| (context.id, first(&context.transfer_syntaxes))).collect();
    let result = |(id, transfer_syntax): &(u8, String)| PresentationContextResult {
        id: *id,
        reason: PresentationContextResultReason::Acceptance,
        transfer_syntax: transfer_syntax.clone(),
    };
    let accepted = AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title,
        called_ae_title: request.called_ae_title,
        application_context_name: request.application_context_name,
        presentation_contexts: contexts.iter().map(result).collect(),
        user_variables: vec![
            UserVariableItem::MaxLength(max_pdu),
            UserVariableItem::ImplementationClassUID("2.25.1".into()),
        ],
    };
    write_pdu(stream, &accepted.into())?;
    Ok(contexts)
}

fn respond(stream: &mut TcpStream, context: u8, request: &Command, field: u16) -> Result<()> {
    let mut response = Command::default()
        .uid(element::AFFECTED_SOP_CLASS_UID, &request.get_uid(element::AFFECTED_SOP_CLASS_UID)?)
        .number(element::COMMAND_FIELD, field)
        .number(element::MESSAGE_ID_RESPONDED_TO, request.get_number(element::MESSAGE_ID)?)
        .number(element::DATA_SET_TYPE, NO_DATA_SET)
        .number(element::STATUS, 0);
    if field == C_STORE_RSP {
        response =
            response.uid(element::AFFECTED_SOP_INSTANCE_UID, &request.get_uid(element::AFFECTED_SOP_INSTANCE_UID)?);
    }
    let data = vec![PDataValue {
        presentation_context_id: context,
        value_type: PDataValueType::Command,
        is_last: true,
        data: response.encode()?,
    }];
    let mut bytes = Vec::new();
    write_pdu(&mut bytes, &Pdu::PData { data })?;
    Ok(stream.write_all(&bytes)?)
}
