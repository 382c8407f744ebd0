//! The light sender: what it sends is ready before the clock starts, so that the receiver is what is measured.

use std::{
    io::{IoSlice, Read, Write},
    net::TcpStream,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use dicom_dictionary_std::uids;
use dicom_ul::{
    association::client::{ClientAssociation, ClientAssociationOptions},
    pdu::PresentationContextResultReason,
};

use crate::load::{Message, Template};

/// The title that every sender calls itself.
pub(crate) const CALLING: &str = "BENCH";
/// A receiver may take longer PDUs; the senders of this world do not make them.
const MAX_PDU: u32 = 131_072;
/// For one read or write.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was answered with success.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Images.
    pub(crate) images: usize,
    /// From the start to the last answer.
    pub(crate) time: Duration,
    /// From the last byte written to the answer, for each image.
    pub(crate) answers: Vec<Duration>,
}

/// A connection over which images go, one after the other.
pub(crate) enum Line {
    /// An association with a storage SCP.
    Dicom(Box<ClientAssociation<TcpStream>>),
    /// A connection to the floor.
    Floor(TcpStream),
}

impl Line {
    /// Opens an association for the template's SOP class in Explicit VR Little Endian.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) fn dicom(address: &str, called: &str, template: &Template) -> Result<Self> {
        let mut association = ClientAssociationOptions::new()
            .calling_ae_title(CALLING)
            .called_ae_title(called)
            .connection_timeout(PATIENCE)
            .read_timeout(PATIENCE)
            .write_timeout(PATIENCE)
            .with_presentation_context(
                template.sop_class().to_owned(),
                vec![uids::EXPLICIT_VR_LITTLE_ENDIAN.to_owned()],
            )
            .establish(address)?;
        association.inner_stream().set_nodelay(true)?;
        Ok(Self::Dicom(Box::new(association)))
    }

    /// Connects to the floor.
    ///
    /// # Errors
    /// When nobody listens.
    pub(crate) fn floor(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::Floor(stream))
    }

    /// What goes over it for each image.
    fn message(&self, template: &Template) -> Result<Message> {
        let Self::Dicom(association) = self else { return Ok(template.plain()) };
        let mut contexts = association.presentation_contexts().iter();
        let accepted = contexts.find(|context| context.reason == PresentationContextResultReason::Acceptance);
        let context = accepted.context("the receiver did not accept the SOP class")?.id;
        let announced = association.acceptor_max_pdu_length();
        // None announced is no limit (PS3.8 annex D.1.1).
        let max_pdu = if announced == 0 { MAX_PDU } else { announced.min(MAX_PDU) };
        template.store(context, max_pdu as usize)
    }

    fn stream(&mut self) -> &mut TcpStream {
        match self {
            Self::Dicom(association) => association.inner_stream(),
            Self::Floor(stream) => stream,
        }
    }

    fn await_answer(&mut self) -> Result<()> {
        match self {
            Self::Dicom(association) => {
                let status = store_status(association.inner_stream())?;
                ensure!(status == 0, "answered with status {status:04X}H");
                Ok(())
            }
            Self::Floor(stream) => Ok(stream.read_exact(&mut [0])?),
        }
    }

    fn close(self) {
        if let Self::Dicom(association) = self {
            // The figures are taken; a peer that answers a release late or not at all changes none of them.
            let _ = association.release();
        }
    }
}

/// Sends `shares[n]` images over `lines[n]`, all lines at once, and stops early when `limit` is over. `start` is called
/// when everything is ready.
///
/// # Errors
/// When a line breaks, or the receiver answers with anything but success.
pub(crate) fn send(
    mut lines: Vec<Line>,
    template: &Template,
    shares: &[usize],
    limit: Duration,
    start: impl FnOnce() -> Result<()>,
) -> Result<Sent> {
    let message = lines.first().context("no line")?.message(template)?;
    start()?;
    let ready = Barrier::new(lines.len() + 1);
    let (begin, outcomes) = thread::scope(|scope| {
        let senders: Vec<_> = lines
            .iter_mut()
            .zip(shares)
            .enumerate()
            .map(|(sender, (line, share))| {
                let (mut message, ready) = (message.clone(), &ready);
                scope.spawn(move || {
                    ready.wait();
                    send_share(line, &mut message, sender, *share, Instant::now() + limit)
                })
            })
            .collect();
        ready.wait();
        let begin = Instant::now();
        let outcomes: Vec<_> = senders.into_iter().map(thread::ScopedJoinHandle::join).collect();
        (begin, outcomes)
    });
    let (mut answers, mut end) = (Vec::new(), begin);
    for outcome in outcomes {
        let (of_sender, ended) = outcome.map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        answers.extend(of_sender);
        end = end.max(ended);
    }
    lines.into_iter().for_each(Line::close);
    Ok(Sent { images: answers.len(), time: end - begin, answers })
}

fn send_share(
    line: &mut Line,
    message: &mut Message,
    sender: usize,
    share: usize,
    deadline: Instant,
) -> Result<(Vec<Duration>, Instant)> {
    let mut answers = Vec::with_capacity(share);
    let mut end = Instant::now();
    for number in 0..share {
        if end >= deadline {
            break;
        }
        message.rename(sender, number);
        let mut parts = [IoSlice::new(&message.head), IoSlice::new(&message.tail)];
        write_all(line.stream(), &mut parts)?;
        let written = Instant::now();
        line.await_answer()?;
        end = Instant::now();
        answers.push(end - written);
    }
    Ok((answers, end))
}

fn write_all(stream: &mut TcpStream, mut parts: &mut [IoSlice<'_>]) -> Result<()> {
    // Skips parts of no length, which would look like a stream that takes nothing more.
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let written = stream.write_vectored(parts)?;
        ensure!(written > 0, "the connection takes nothing more");
        IoSlice::advance_slices(&mut parts, written);
    }
    Ok(())
}

/// The status (0000,0900) of the C-STORE-RSP that comes next.
fn store_status(stream: &mut TcpStream) -> Result<u16> {
    let mut command = Vec::new();
    loop {
        let mut head = [0; 6];
        stream.read_exact(&mut head)?;
        ensure!(head[0] == 0x04, "a PDU of type {:02X}H instead of an answer", head[0]);
        let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
        ensure!(length <= MAX_PDU, "an answer of {length} bytes");
        let mut pdu = vec![0; length as usize];
        stream.read_exact(&mut pdu)?;
        let mut items = pdu.as_slice();
        while let Some((item, rest)) = items.split_first_chunk::<6>() {
            let length = u32::from_be_bytes([item[0], item[1], item[2], item[3]]) as usize;
            let fragment = length.checked_sub(2).and_then(|length| rest.split_at_checked(length));
            let (fragment, rest) = fragment.context("an answer that is cut short")?;
            command.extend(fragment);
            if item[5] & 0b10 != 0 {
                return status_of(&command);
            }
            items = rest;
        }
    }
}

fn status_of(mut command: &[u8]) -> Result<u16> {
    while let Some((head, rest)) = command.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (value, rest) = rest.split_at_checked(length).context("an answer that is cut short")?;
        if head[..4] == [0, 0, 0, 9] {
            return Ok(u16::from_le_bytes(value.try_into().context("a status that is not two bytes")?));
        }
        command = rest;
    }
    bail!("an answer without a status")
}
