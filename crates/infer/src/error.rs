//! What can go wrong, one variant per thing somebody does about it.

use std::path::PathBuf;

use crate::foreign::shown;

/// Why a model could not be loaded or a request not answered. Each variant is one action; messages carry no patient
/// data: they speak of files, graphs and options, never of pixels or of generated text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The ONNX Runtime library is absent, is something else, or is too old: install the right one.
    #[error("ONNX Runtime library {}: {problem}", library.display())]
    Runtime {
        /// The file that was asked for.
        library: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A file of the model folder is missing or malformed: repair the folder.
    #[error("model {}: {problem}", path.display())]
    Bundle {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// The model, or an option of it, is sound but not one this engine runs: choose another model or option.
    #[error("not supported: {found}; supported: {supported}; {advice}")]
    Unsupported {
        /// What was found, and where.
        found: String,
        /// What would have been accepted.
        supported: String,
        /// What to do.
        advice: String,
    },
    /// The request itself is wrong (image, option name or value): the caller corrects it.
    #[error("request: {0}")]
    Request(String),
    /// ONNX Runtime refused to load or run a graph: look at the model and the memory of this machine.
    #[error("graph {graph}: {problem}")]
    Graph {
        /// File name of the graph.
        graph: String,
        /// ONNX Runtime's own words, or what the graph returned against what it should.
        problem: String,
    },
    /// Memory ran out while a request was answered: ask for less at once, or give the machine more. The model serves on.
    #[error(
        "out of memory, this request is lost: {0}; send fewer or smaller images, ask for fewer beams or samples, give the \
         machine more memory, or choose a model of a smaller precision"
    )]
    OutOfMemory(String),
    /// The queue is full: try again later.
    #[error("busy: {capacity} requests are already waiting for this model; try again later")]
    Busy {
        /// Length of the queue, in requests.
        capacity: usize,
    },
    /// Somebody cancelled the request: nothing to do.
    #[error("cancelled before the answer was complete")]
    Cancelled,
    /// The deadline passed first: allow more time, or shorten `max_new_tokens`.
    #[error("the deadline passed before the answer was complete; allow more time or lower max_new_tokens")]
    DeadlineExceeded,
    /// The backend panicked: report the defect. Only the job that hit it is lost.
    #[error("defect in the inference backend, this request is lost: {0}")]
    Defect(String),
}

/// How ONNX Runtime, its execution providers, C++ and Rust speak of memory that they did not get.
const OUT_OF_MEMORY: [&str; 8] = [
    "bad_alloc",
    "bad allocation",
    "failed to allocate",
    "memory allocation",
    "allocation failed",
    "out of memory",
    "capacity overflow",
    "is smaller than requested bytes",
];

fn is_about_memory(problem: &str) -> bool {
    let words = problem.to_lowercase();
    OUT_OF_MEMORY.iter().any(|said| words.contains(said))
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn bundle(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Bundle { path: path.into(), problem: problem.into() }
    }

    /// What a graph says while it runs.
    pub(crate) fn of_run(graph: &str, problem: impl ToString) -> Self {
        let problem = shown(&problem.to_string());
        match is_about_memory(&problem) {
            true => Self::OutOfMemory(format!("graph {graph}: {problem}")),
            false => Self::graph(graph, problem),
        }
    }

    /// What a backend says when it panics.
    pub(crate) fn of_panic(words: &str) -> Self {
        let words = shown(words);
        if is_about_memory(&words) { Self::OutOfMemory(words) } else { Self::Defect(words) }
    }

    pub(crate) fn graph(graph: &str, problem: impl ToString) -> Self {
        Self::Graph { graph: shown(graph), problem: shown(&problem.to_string()) }
    }

    pub(crate) fn unsupported(
        found: impl Into<String>,
        supported: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::Unsupported { found: found.into(), supported: supported.into(), advice: advice.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_memory_is_known() {
        let check = |problem: &str, expected: bool| {
            let errors = [Error::of_run("decoder.onnx", problem), Error::of_panic(problem)];
            for error in &errors {
                assert_eq!(matches!(error, Error::OutOfMemory(_)), expected, "{error}");
                assert!(error.to_string().contains(problem), "{error}");
            }
            assert!(errors[0].to_string().contains("decoder.onnx"), "{}", errors[0]);
        };
        check("std::bad_alloc", true);
        check(
            "Non-zero status code while running Conv node: BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 4096",
            true,
        );
        check("Available memory of 5 is smaller than requested bytes of 9", true);
        check("CUDA failure 2: out of memory", true);
        check("capacity overflow", true);
        check("Non-zero status code returned while running Gather node: indices element out of data bounds", false);
        check("index out of bounds: the len is 3 but the index is 4", false);
    }
}
