//! What can go wrong, one variant per thing somebody does about it.

use std::path::PathBuf;

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

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn bundle(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::Bundle { path: path.into(), problem: problem.into() }
    }

    pub(crate) fn graph(graph: &str, problem: impl ToString) -> Self {
        Self::Graph { graph: graph.to_owned(), problem: problem.to_string() }
    }

    pub(crate) fn unsupported(
        found: impl Into<String>,
        supported: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::Unsupported { found: found.into(), supported: supported.into(), advice: advice.into() }
    }
}
