//! One thread per model, and a bounded queue in front of it.

use std::{
    any::Any,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use crate::{
    answer::Answer,
    backend::Backend,
    cancel::Cancel,
    error::{Error, Result},
    model::Request,
};

/// Owns a [`Backend`] on a thread of its own and hands it requests one by one, in the order they came.
///
/// Dropping it cancels the running request, answers the waiting ones with [`Error::Cancelled`] and waits for the thread.
pub struct Dispatcher {
    queue: Option<SyncSender<Job>>,
    capacity: usize,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    waiting: AtomicUsize,
    running: Mutex<Option<Cancel>>,
}

struct Job {
    request: Request,
    cancel: Cancel,
    answer: SyncSender<Result<Answer>>,
}

/// The claim to an answer. Dropping it cancels the request: nobody is left to read the answer.
#[derive(Debug)]
pub struct Ticket {
    answer: Receiver<Result<Answer>>,
    cancel: Cancel,
}

impl Dispatcher {
    /// Starts the thread. At most `capacity` requests wait besides the one that runs.
    ///
    /// # Errors
    /// [`Error::Defect`] when the system refuses a thread.
    pub fn start(backend: impl Backend + 'static, capacity: usize) -> Result<Self> {
        let (queue, jobs) = sync_channel::<Job>(capacity);
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("infer".to_owned())
            .spawn(move || work(backend, &jobs, &for_thread))
            .map_err(|error| Error::Defect(format!("no thread for the model: {error}")))?;
        Ok(Self { queue: Some(queue), capacity, shared, thread: Some(thread) })
    }

    /// Queues a request without waiting.
    ///
    /// # Errors
    /// [`Error::Busy`] when the queue is full, [`Error::Defect`] when the thread is gone.
    pub fn submit(&self, request: Request, deadline: Option<Instant>) -> Result<Ticket> {
        let cancel = deadline.map_or_else(Cancel::new, Cancel::at);
        let (sender, answer) = sync_channel(1);
        let job = Job { request, cancel: cancel.clone(), answer: sender };
        self.shared.waiting.fetch_add(1, Ordering::SeqCst);
        let gone = || Error::Defect("the model's thread is gone".to_owned());
        let refused = match &self.queue {
            Some(queue) => match queue.try_send(job) {
                Ok(()) => return Ok(Ticket { answer, cancel }),
                Err(TrySendError::Full(_)) => Error::Busy { capacity: self.capacity },
                Err(TrySendError::Disconnected(_)) => gone(),
            },
            None => gone(),
        };
        self.shared.waiting.fetch_sub(1, Ordering::SeqCst);
        Err(refused)
    }

    /// Requests that wait, without the one that runs.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::SeqCst)
    }
}

impl Ticket {
    /// Waits for the answer, at most until the deadline of the request.
    ///
    /// # Errors
    /// What the backend returned; [`Error::DeadlineExceeded`], [`Error::Cancelled`], or [`Error::Defect`] after a panic.
    pub fn wait(self) -> Result<Answer> {
        let received = match self.cancel.deadline() {
            None => self.answer.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => self.answer.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        };
        match received {
            Ok(answer) => answer,
            // Dropping the ticket interrupts the graph that is still running.
            Err(RecvTimeoutError::Timeout) => Err(Error::DeadlineExceeded),
            Err(RecvTimeoutError::Disconnected) => Err(Error::Defect("the model's thread ended early".to_owned())),
        }
    }

    /// A handle that cancels the request from elsewhere.
    pub fn cancel_handle(&self) -> Cancel {
        self.cancel.clone()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        drop(self.queue.take());
        if let Some(cancel) = &*self.shared.running.lock().unwrap_or_else(PoisonError::into_inner) {
            cancel.cancel();
        }
        if let Some(thread) = self.thread.take() {
            // The thread catches panics of the backend; one of its own has nothing left to tell.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").field("capacity", &self.capacity).field("waiting", &self.waiting()).finish()
    }
}

fn work(mut backend: impl Backend, jobs: &Receiver<Job>, shared: &Shared) {
    while let Ok(job) = jobs.recv() {
        shared.waiting.fetch_sub(1, Ordering::SeqCst);
        *shared.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(job.cancel.clone());
        let answer = if shared.stopping.load(Ordering::SeqCst) {
            Err(Error::Cancelled)
        } else {
            job.cancel.check().and_then(|()| {
                // What a backend keeps between requests is whole or gone, so a panic leaves nothing half done behind.
                catch_unwind(AssertUnwindSafe(|| backend.run(&job.request, &job.cancel)))
                    .unwrap_or_else(|panic| Err(Error::of_panic(&message(&*panic))))
            })
        };
        *shared.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Nobody listens any more when the ticket was dropped.
        let _ = job.answer.try_send(answer);
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic without a message".to_owned())
}
