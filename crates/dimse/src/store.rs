use std::{
    io::SeekFrom,
    path::{Path, PathBuf},
};

use dataset::{Header, Limits, Phi, TransferSyntax, Uid, part10::Meta};
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt, AsyncSeekExt},
    task::spawn_blocking,
};

use crate::{
    Destination, Error,
    client::Association,
    command::{CommandSet, element, field, status},
    meaning,
    wire::{Value, WireError},
};

/// What became of one file.
#[derive(Debug)]
pub struct Outcome {
    /// The file, as it was given.
    pub path: PathBuf,
    /// Its SOP Instance UID, where the file could be read.
    pub sop_instance_uid: Option<Uid>,
    /// What became of it.
    pub status: StoreStatus,
}

/// What a destination, or the way to it, made of an instance (PS3.4 table B.2-1).
#[derive(Debug, thiserror::Error)]
pub enum StoreStatus {
    /// The destination has stored it.
    #[error("stored")]
    Success,
    /// The destination has stored it, with a reservation (coercion, elements discarded).
    #[error("stored with warning {0:#06x}")]
    Warning(u16),
    /// The destination has not stored it.
    #[error("refused with status {code:#06x} ({})", meaning::of_failure(*code))]
    Failure {
        /// The status; 0xA7xx means "out of resources", and to try later.
        code: u16,
        /// The destination's Error Comment (0000,0902), without control characters: its own words, which may name a
        /// patient.
        comment: Option<Phi<String>>,
    },
    /// The destination takes neither the file's transfer syntax nor one that it can be rewritten in. Trying again will
    /// not help.
    #[error(
        "the destination accepts SOP class {sop_class_uid} not in {transfer_syntax}, nor in a syntax it can be rewritten in"
    )]
    NotAccepted {
        /// The SOP class.
        sop_class_uid: Uid,
        /// The name of the transfer syntax that the file has.
        transfer_syntax: &'static str,
    },
    /// The file cannot be read or is no instance. Trying again will not help.
    #[error("not sent: {0}")]
    Unreadable(dataset::Error),
    /// The association ended before the destination answered: it may have stored the instance or not.
    #[error("not answered: {0}")]
    Unanswered(String),
    /// The association ended before it was the file's turn, and says nothing about it.
    #[error("not sent: {0}")]
    NotSent(String),
}

/// Presentation contexts in one association: the odd numbers below 256 (PS3.8 section 9.3.2.2).
const MOST_CONTEXTS: usize = 128;
/// File meta information ends before this in any file met.
const HEAD: usize = 64 << 10;

/// A file that can be offered.
struct Candidate {
    /// Which of the given files.
    index: usize,
    sop_class_uid: Uid,
    sop_instance_uid: Uid,
    syntax: TransferSyntax,
    data_set_at: u64,
    length: u64,
}

/// What a deflated data set of odd length is padded with (PS3.5 A.5).
const PADDING: &[u8] = &[0];

/// Sends files (C-STORE, PS3.4 annex B) and says of each, in their order, what became of it.
///
/// All go over one association, or over as many as their presentation contexts need. Errors when the first association
/// cannot be had; nothing was sent then. When one breaks later, the files that follow are [`StoreStatus::NotSent`].
pub async fn store(destination: &Destination, files: &[PathBuf]) -> Result<Vec<Outcome>, Error> {
    send_all(destination, files, Order::Any).await
}

/// As [`store`], for files of which none may come before those that stand before it: after the first that the destination
/// does not store, those that follow are [`StoreStatus::NotSent`].
pub async fn store_in_order(destination: &Destination, files: &[PathBuf]) -> Result<Vec<Outcome>, Error> {
    send_all(destination, files, Order::Kept).await
}

/// What one file that is not stored means for those behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Nothing.
    Any,
    /// They wait.
    Kept,
}

async fn send_all(destination: &Destination, files: &[PathBuf], order: Order) -> Result<Vec<Outcome>, Error> {
    let mut outcomes = Vec::with_capacity(files.len());
    let mut candidates = Vec::new();
    let mut readable = true;
    for (index, path) in files.iter().enumerate() {
        let found = if readable || order == Order::Any { Some(candidate(index, path).await) } else { None };
        let (sop_instance_uid, status) = match found {
            Some(Ok(found)) => {
                let uid = found.sop_instance_uid.clone();
                candidates.push(found);
                (Some(uid), StoreStatus::NotSent(NOT_YET.to_owned()))
            }
            Some(Err(error)) => {
                readable = false;
                (None, StoreStatus::Unreadable(error))
            }
            None => (None, StoreStatus::NotSent(NOT_YET.to_owned())),
        };
        outcomes.push(Outcome { path: path.clone(), sop_instance_uid, status });
    }
    let mut broken: Option<Error> = None;
    for (number, (batch, contexts)) in batches(candidates).into_iter().enumerate() {
        if let Some(error) = &broken {
            give_up(&batch, error, &mut outcomes);
            continue;
        }
        if order == Order::Kept && number > 0 && outcomes.iter().any(is_refused) {
            break;
        }
        match Association::request(destination, &contexts).await {
            Ok(association) => broken = send_batch(association, destination, &batch, order, &mut outcomes).await,
            Err(error) if number == 0 => return Err(error),
            Err(error) => {
                give_up(&batch, &error, &mut outcomes);
                broken = Some(error);
            }
        }
    }
    Ok(outcomes)
}

const NOT_YET: &str = "it was not its turn yet";

/// Whether what follows has to wait for it.
fn is_refused(outcome: &Outcome) -> bool {
    matches!(outcome.status, StoreStatus::Failure { .. } | StoreStatus::NotAccepted { .. } | StoreStatus::Unreadable(_))
}

fn give_up(left: &[Candidate], error: &Error, outcomes: &mut [Outcome]) {
    for candidate in left {
        outcomes[candidate.index].status = StoreStatus::NotSent(error.to_string());
    }
}

/// Reads what is needed to offer a file.
async fn candidate(index: usize, path: &Path) -> Result<Candidate, dataset::Error> {
    let mut file = File::open(path).await?;
    let file_length = file.metadata().await?.len();
    let mut head = Vec::new();
    (&mut file).take(HEAD as u64).read_to_end(&mut head).await?;
    let (meta, data_set_at) = Meta::parse(&head)?;
    let syntax = TransferSyntax::from_uid(meta.transfer_syntax_uid.as_str())?;
    let length = file_length.saturating_sub(data_set_at as u64);
    if length == 0 {
        return Err(dataset::Error::Meta("no data set follows it"));
    }
    if length % 2 == 1 && !syntax.deflated() {
        // No fragment may be odd (PS3.8 annex E.2), and a destination that minds takes the association down.
        let what = "the data set has an odd length and ends";
        return Err(dataset::gate::GateError::Malformed { what, offset: length }.into());
    }
    // The destination compares the command with the data set, and the file meta information of files that went through
    // an anonymiser often says something else. It serves for a data set that the gate does not let through.
    let to_scan = path.to_owned();
    let header =
        spawn_blocking(move || Header::open(&to_scan, &Limits::default())).await.map_err(std::io::Error::other)?;
    let (sop_class_uid, sop_instance_uid) = match (header, meta.sop_class_uid, meta.sop_instance_uid) {
        (Ok(header), _, _) => (header.sop_class_uid, header.sop_instance_uid),
        (Err(_), Some(class), Some(instance)) => (class, instance),
        (Err(error), _, _) => return Err(error),
    };
    Ok(Candidate { index, sop_class_uid, sop_instance_uid, syntax, data_set_at: data_set_at as u64, length })
}

impl Candidate {
    /// In which transfer syntaxes it can be sent, its own first. Compressed pixels are never recompressed, and big
    /// endian never turned round: nothing says which bytes of a private element would have to be swapped.
    fn syntaxes(&self) -> Vec<&'static str> {
        let mut syntaxes = vec![self.syntax.uid()];
        if !self.syntax.encapsulated() && !self.syntax.big_endian() {
            for uid in [TransferSyntax::EXPLICIT_VR_LITTLE_ENDIAN, TransferSyntax::IMPLICIT_VR_LITTLE_ENDIAN] {
                if !syntaxes.contains(&uid) {
                    syntaxes.push(uid);
                }
            }
        }
        syntaxes
    }
}

/// One presentation context to propose: abstract and transfer syntax.
type Proposed = (String, &'static str);

/// Splits the files, in their order, into as many associations as their presentation contexts need: mostly one.
fn batches(candidates: Vec<Candidate>) -> Vec<(Vec<Candidate>, Vec<Proposed>)> {
    let mut batches: Vec<(Vec<Candidate>, Vec<Proposed>)> = Vec::new();
    for candidate in candidates {
        let class = candidate.sop_class_uid.as_str();
        let wanted: Vec<Proposed> = candidate.syntaxes().into_iter().map(|syntax| (class.to_owned(), syntax)).collect();
        let fits = |contexts: &[Proposed]| {
            contexts.len() + wanted.iter().filter(|context| !contexts.contains(context)).count() <= MOST_CONTEXTS
        };
        if !batches.last().is_some_and(|(_, contexts)| fits(contexts)) {
            batches.push((Vec::new(), Vec::new()));
        }
        if let Some((files, contexts)) = batches.last_mut() {
            for context in wanted {
                if !contexts.contains(&context) {
                    contexts.push(context);
                }
            }
            files.push(candidate);
        }
    }
    batches
}

/// Sends the files of one association. Answers why it broke, if it did.
async fn send_batch(
    mut association: Association<'_>,
    destination: &Destination,
    batch: &[Candidate],
    order: Order,
    outcomes: &mut [Outcome],
) -> Option<Error> {
    for (done, candidate) in batch.iter().enumerate() {
        let path = outcomes[candidate.index].path.clone();
        match send(&mut association, candidate, &path).await {
            Ok(status) => {
                outcomes[candidate.index].status = status;
                if order == Order::Kept && is_refused(&outcomes[candidate.index]) {
                    break;
                }
            }
            Err(failure) => {
                association.abort().await;
                let (status, what) = match failure {
                    Failure::Wire(error) => (StoreStatus::Unanswered(error.to_string()), error),
                    Failure::File(error) => {
                        let what = WireError::Protocol("aborted here, because a file could not be read to its end");
                        (StoreStatus::Unreadable(error.into()), what)
                    }
                };
                outcomes[candidate.index].status = status;
                let error = Error::wire(destination, &what);
                give_up(&batch[done + 1..], &error, outcomes);
                return Some(error);
            }
        }
    }
    association.release().await;
    None
}

/// Why the association cannot go on.
enum Failure {
    Wire(WireError),
    File(std::io::Error),
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// Sends one file and waits for the answer.
async fn send(association: &mut Association<'_>, candidate: &Candidate, path: &Path) -> Result<StoreStatus, Failure> {
    let context_for = |syntax: &str| {
        let class = candidate.sop_class_uid.as_str();
        let mut contexts = association.contexts.iter();
        contexts.find(|(_, context)| context.abstract_syntax == class && context.transfer_syntax.uid() == syntax)
    };
    let accepted = candidate.syntaxes().into_iter().find_map(|syntax| context_for(syntax).map(|(&id, _)| (id, syntax)));
    let Some((context, syntax)) = accepted else {
        let transfer_syntax = candidate.syntax.name();
        return Ok(StoreStatus::NotAccepted { sop_class_uid: candidate.sop_class_uid.clone(), transfer_syntax });
    };
    let request = association
        .request_command(field::C_STORE_RQ)
        .with_uid(element::AFFECTED_SOP_CLASS_UID, candidate.sop_class_uid.as_str())
        .with_uid(element::AFFECTED_SOP_INSTANCE_UID, candidate.sop_instance_uid.as_str())
        .with_number(element::PRIORITY, 0)
        .followed_by_data_set();
    if syntax == candidate.syntax.uid() {
        let file = match open_at(path, candidate.data_set_at).await {
            Ok(file) => file,
            Err(error) => return Ok(StoreStatus::Unreadable(error.into())),
        };
        association.wire.send_command(context, &request).await?;
        let padding = if candidate.length % 2 == 1 { PADDING } else { &[] };
        let mut data_set = file.take(candidate.length).chain(padding);
        send_data_set(association, context, &mut data_set, candidate.length.next_multiple_of(2)).await?;
    } else {
        let bytes = match rewritten(path.to_owned(), syntax).await {
            Ok(bytes) => bytes,
            Err(error) => return Ok(StoreStatus::Unreadable(error)),
        };
        association.wire.send_command(context, &request).await?;
        send_data_set(association, context, &mut bytes.as_slice(), bytes.len() as u64).await?;
    }
    let response = association.response(context, &request, field::C_STORE_RSP).await?;
    Ok(outcome(&response))
}

async fn open_at(path: &Path, offset: u64) -> std::io::Result<File> {
    let mut file = File::open(path).await?;
    file.seek(SeekFrom::Start(offset)).await?;
    Ok(file)
}

/// Streams a data set of known length in pieces as large as the peer takes. Only the byte that the length says is the
/// last one is marked last: if the file ends before, the peer must not take what it got for the whole.
async fn send_data_set(
    association: &mut Association<'_>,
    context: u8,
    data_set: &mut (impl AsyncRead + Unpin),
    length: u64,
) -> Result<(), Failure> {
    let mut buffer = vec![0; association.wire.fragment_size()];
    let mut left = length;
    while left > 0 {
        let size = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let data = &mut buffer[..size];
        data_set.read_exact(data).await.map_err(Failure::File)?;
        left -= size as u64;
        association.wire.send_value(&Value { context, command: false, last: left == 0, data }).await?;
    }
    Ok(())
}

/// The whole data set in another of the uncompressed little endian transfer syntaxes.
async fn rewritten(path: PathBuf, syntax: &'static str) -> Result<Vec<u8>, dataset::Error> {
    let rewrite = move || dataset::rewritten(&path, TransferSyntax::from_uid(syntax)?, &Limits::default());
    spawn_blocking(rewrite).await.map_err(std::io::Error::other)?
}

/// Reads the status of a C-STORE response (PS3.7 annex C, PS3.4 table B.2-1).
fn outcome(response: &CommandSet) -> StoreStatus {
    match response.number(element::STATUS) {
        Some(status::SUCCESS) => StoreStatus::Success,
        Some(code @ (0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF)) => StoreStatus::Warning(code),
        code => {
            let code = code.unwrap_or(status::PROCESSING_FAILURE);
            StoreStatus::Failure { code, comment: response.comment() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_of(index: usize, class: &str, syntax: &str) -> Candidate {
        Candidate {
            index,
            sop_class_uid: class.parse().unwrap(),
            sop_instance_uid: "1.2.3".parse().unwrap(),
            syntax: TransferSyntax::from_uid(syntax).unwrap(),
            data_set_at: 0,
            length: 1,
        }
    }

    #[test]
    fn contexts_are_shared_and_compressed_files_offered_as_they_are() {
        let files = vec![
            made_of(0, "1.2.1", "1.2.840.10008.1.2.1"),
            made_of(1, "1.2.1", "1.2.840.10008.1.2"),
            made_of(2, "1.2.1", "1.2.840.10008.1.2.4.90"),
            made_of(3, "1.2.2", "1.2.840.10008.1.2.4.90"),
            made_of(4, "1.2.2", "1.2.840.10008.1.2.2"),
        ];
        let batches = batches(files);
        assert_eq!(batches.len(), 1);
        let proposed: Vec<_> = batches[0].1.iter().map(|(class, syntax)| (class.as_str(), *syntax)).collect();
        assert_eq!(
            proposed,
            [
                ("1.2.1", "1.2.840.10008.1.2.1"),
                ("1.2.1", "1.2.840.10008.1.2"),
                ("1.2.1", "1.2.840.10008.1.2.4.90"),
                ("1.2.2", "1.2.840.10008.1.2.4.90"),
                ("1.2.2", "1.2.840.10008.1.2.2"),
            ]
        );
    }

    #[test]
    fn more_than_128_contexts_take_more_associations() {
        let files = (0..100).map(|number| made_of(number, &format!("1.2.{number}"), "1.2.840.10008.1.2.1")).collect();
        let batches = batches(files);
        let sizes: Vec<_> = batches.iter().map(|(files, contexts)| (files.len(), contexts.len())).collect();
        assert_eq!(sizes, [(64, 128), (36, 72)]);
    }

    #[test]
    fn statuses_are_sorted_into_success_warning_and_failure() {
        let told = |code| outcome(&CommandSet::default().with_number(element::STATUS, code));
        assert!(matches!(told(0), StoreStatus::Success));
        assert!(matches!(told(0xB006), StoreStatus::Warning(0xB006)));
        assert!(matches!(told(0xA700), StoreStatus::Failure { code: 0xA700, .. }));
        assert!(matches!(outcome(&CommandSet::default()), StoreStatus::Failure { .. }));
    }
}
