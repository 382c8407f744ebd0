//! What a server costs, as the kernel counts it (`proc(5)`).

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};

/// The unit of `/proc/PID/stat` as user space sees it, on every Linux.
const TICKS_PER_SECOND: u64 = 100;
/// How often the processes of a server that forks are looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Time on a processor, by the process, its children that it has waited for, and those that are still there.
///
/// # Errors
/// When there is no such process.
pub(crate) fn processor_time(id: u32) -> Result<Duration> {
    let (own, waited_for) = ticks(id)?;
    // A child may go while we look: then its parent has waited for it, or will have when we look again.
    let of_children = children(id).into_iter().filter_map(|child| ticks(child).ok()).map(|(own, _)| own);
    let ticks = own + waited_for + of_children.sum::<u64>();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

fn ticks(id: u32) -> Result<(u64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).context("the server is gone")?;
    // The second field is the program's name in brackets, which may have spaces in it.
    let (_, fields) = stat.rsplit_once(')').context("unknown form of /proc/PID/stat")?;
    let field = |number: usize| fields.split_whitespace().nth(number - 3).and_then(|field| field.parse::<u64>().ok());
    let sum = |one, other| Some(field(one)? + field(other)?);
    let own = sum(14, 15).context("unknown form of /proc/PID/stat")?;
    Ok((own, sum(16, 17).context("unknown form of /proc/PID/stat")?))
}

fn children(id: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// The most memory in RAM that a process has had (`VmHWM`), in bytes; none when it is gone.
fn peak_of(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes * 1024)
}

/// Watches the memory of a server.
pub(crate) struct Watch {
    id: u32,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// A server that forks is looked at while it runs, because a child's figures go with the child: its peak is the
    /// largest sum of `VmHWM` over the processes that were alive at one time.
    pub(crate) fn start(id: u32, forks: bool) -> Self {
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (for_thread, until) = (Arc::clone(&peak), Arc::clone(&stop));
        let thread = forks.then(|| {
            thread::spawn(move || {
                while !until.load(Ordering::Relaxed) {
                    for_thread.fetch_max(sum_of_peaks(id), Ordering::Relaxed);
                    thread::sleep(INTERVAL);
                }
            })
        });
        Self { id, peak, stop, thread }
    }

    /// The peak so far, in bytes.
    pub(crate) fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.peak.load(Ordering::Relaxed).max(sum_of_peaks(self.id))
    }
}

fn sum_of_peaks(id: u32) -> u64 {
    children(id).into_iter().chain([id]).filter_map(peak_of).sum()
}
