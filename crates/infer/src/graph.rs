//! One ONNX graph: its inputs and outputs as the file states them, and running it.

use std::{
    borrow::Cow,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use half::f16;
use ort::{
    logging::LogLevel,
    memory::Allocator,
    session::{
        RunOptions, Session, SessionInputValue,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
    value::{DynTensor, DynValue, Outlet, Tensor, TensorElementType, ValueType},
};
use serde::{Serialize, Serializer, ser::SerializeTuple};

use crate::{
    cancel::Cancel,
    error::{Error, Result},
    foreign::shown_before_advice,
    model::SessionOptions,
    provider::Provider,
    runtime::Runtime,
};

/// One dimension of a graph's input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Dimension {
    /// Fixed by the graph.
    Fixed(i64),
    /// Decided at run time; the exporter's name for it, possibly empty.
    Symbolic(String),
}

/// An input or output of a graph, as the file states it. Serialises as `[name, type, shape]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the graph.
    pub name: String,
    /// Element type as ONNX Runtime writes it, such as `tensor(float)`.
    pub dtype: String,
    /// Dimensions, outermost first.
    pub shape: Vec<Dimension>,
    element: Option<TensorElementType>,
    /// What the engine calls it.
    pub(crate) role: String,
}

/// What a graph calls its inputs and outputs, where that is not what the engine calls them. `%d` stands for a number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    pairs: Vec<(String, String)>,
    pub(crate) head_size: Option<i64>,
}

impl Names {
    /// No names yet. `head_size`: values of a head of the key/value cache, for graphs that leave it open.
    pub(crate) fn new(head_size: Option<i64>) -> Self {
        Self { pairs: Vec::new(), head_size }
    }

    /// `theirs` in the graph is `ours` here.
    pub(crate) fn insert(&mut self, theirs: &str, ours: &str) {
        self.pairs.push((theirs.to_owned(), ours.to_owned()));
    }

    /// The engine's name of an input or output.
    pub(crate) fn ours(&self, theirs: &str) -> String {
        let translated = self.pairs.iter().find_map(|(pattern, ours)| match pattern.split_once("%d") {
            None => (pattern == theirs).then(|| ours.clone()),
            Some((before, after)) => {
                let number = theirs.strip_prefix(before)?.strip_suffix(after)?;
                let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
                // A name for many that has no number here: what they are called in the file tells them apart.
                (digits && ours.contains("%d")).then(|| ours.replacen("%d", number, 1))
            }
        });
        translated.unwrap_or_else(|| theirs.to_owned())
    }
}

/// A graph of a loaded model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GraphInfo {
    /// File name.
    pub file: String,
    /// What runs it.
    pub provider: Provider,
    /// Inputs, in the graph's order.
    pub inputs: Vec<TensorInfo>,
    /// Outputs, in the graph's order.
    pub outputs: Vec<TensorInfo>,
}

impl GraphInfo {
    /// Names of the inputs, for messages.
    pub(crate) fn input_names(&self) -> String {
        let names: Vec<&str> = self.inputs.iter().map(|input| input.name.as_str()).collect();
        names.join(", ")
    }
}

impl Serialize for TensorInfo {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(3)?;
        tuple.serialize_element(&self.name)?;
        tuple.serialize_element(&self.dtype)?;
        tuple.serialize_element(&self.shape)?;
        tuple.end()
    }
}

impl TensorInfo {
    fn new(outlet: &Outlet, names: &Names) -> Self {
        let name = outlet.name().to_owned();
        let role = names.ours(&name);
        match outlet.dtype() {
            ValueType::Tensor { ty, shape, dimension_symbols } => {
                let dimension = |(size, symbol): (&i64, &String)| match *size {
                    size if size >= 0 => Dimension::Fixed(size),
                    _ => Dimension::Symbolic(symbol.clone()),
                };
                let mut shape: Vec<Dimension> = shape.iter().zip(dimension_symbols.iter()).map(dimension).collect();
                if let (Some(size), Some(last @ Dimension::Symbolic(_))) = (names.head_size, shape.last_mut())
                    && role.starts_with("past_key_values.")
                {
                    *last = Dimension::Fixed(size);
                }
                Self { name, dtype: format!("tensor({})", onnx_name(*ty)), shape, element: Some(*ty), role }
            }
            other => Self { name, dtype: other.to_string(), shape: Vec::new(), element: None, role },
        }
    }

    pub(crate) fn is_float(&self) -> bool {
        matches!(self.element, Some(TensorElementType::Float32 | TensorElementType::Float16))
    }

    /// The fixed size of dimension `index`.
    pub(crate) fn fixed(&self, index: usize) -> Option<i64> {
        match self.shape.get(index) {
            Some(Dimension::Fixed(size)) => Some(*size),
            _ => None,
        }
    }
}

/// Element type as ONNX Runtime's Python writes it, which is what model cards and fixtures show.
fn onnx_name(element: TensorElementType) -> String {
    match element {
        TensorElementType::Float32 => "float".to_owned(),
        TensorElementType::Float64 => "double".to_owned(),
        TensorElementType::Bfloat16 => "bfloat16".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Values for the inputs of one run, by name.
pub(crate) type Feeds<'a> = Vec<(Cow<'a, str>, SessionInputValue<'a>)>;

/// A session and what its file says about it.
pub(crate) struct Graph {
    session: Session,
    /// Shared, so that feeds can borrow names from it while the session runs.
    info: Arc<GraphInfo>,
    ran: Duration,
}

impl Graph {
    /// Loads by path, never from memory: weights may lie in files beside the graph.
    pub(crate) fn load(path: &Path, names: &Names, runtime: &Runtime, options: &SessionOptions) -> Result<Self> {
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut refused = String::new();
        for provider in options.provider.candidates() {
            match build(path, runtime, options, provider) {
                Ok(session) => {
                    tracing::info!(graph = file, %provider, "graph loaded");
                    let describe =
                        |outlets: &[Outlet]| outlets.iter().map(|outlet| TensorInfo::new(outlet, names)).collect();
                    let (inputs, outputs) = (describe(session.inputs()), describe(session.outputs()));
                    let info = Arc::new(GraphInfo { file, provider, inputs, outputs });
                    return Ok(Self { session, info, ran: Duration::ZERO });
                }
                Err(problem) => {
                    tracing::warn!(graph = file, %provider, problem, "not loaded");
                    refused = problem;
                }
            }
        }
        Err(Error::graph(&file, refused))
    }

    pub(crate) fn info(&self) -> &Arc<GraphInfo> {
        &self.info
    }

    pub(crate) fn input(&self, role: &str) -> Option<&TensorInfo> {
        self.info.inputs.iter().find(|input| input.role == role)
    }

    /// Position of an output among the values `run` returns.
    pub(crate) fn output(&self, role: &str) -> Option<usize> {
        self.info.outputs.iter().position(|output| output.role == role)
    }

    /// How long ONNX Runtime has run the graph so far.
    pub(crate) fn ran(&self) -> Duration {
        self.ran
    }

    /// Runs the graph; the values come in the order of its outputs.
    pub(crate) fn run(&mut self, feeds: Feeds<'_>, cancel: &Cancel) -> Result<Vec<DynValue>> {
        let fail = |error: ort::Error| Error::graph(&self.info.file, error);
        let mut options = RunOptions::new().map_err(fail)?;
        // What a run fails with comes back as its error, and a run that we interrupt is no failure: neither is for ONNX
        // Runtime to log.
        options.set_log_level(LogLevel::Fatal).map_err(fail)?;
        let options = Arc::new(options);
        cancel.watch(&options)?;
        let began = Instant::now();
        let outcome = self.session.run_with_options(feeds, &*options);
        self.ran += began.elapsed();
        match outcome {
            Ok(outputs) => Ok(outputs.into_iter().map(|(_, value)| value).collect()),
            // An interrupted run fails with ONNX Runtime's words; the reason is ours.
            Err(error) => Err(cancel.check().err().unwrap_or_else(|| Error::of_run(&self.info.file, error))),
        }
    }
}

/// A session, or a sentence that says what is wrong and what to do.
fn build(path: &Path, runtime: &Runtime, options: &SessionOptions, provider: Provider) -> Result<Session, String> {
    let prepared = || -> ort::Result<SessionBuilder> {
        Ok(Session::builder(&runtime.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(options.threads.max(1))?
            .with_inter_threads(1)?
            // Between the operators of a run threads are waited for awake, which makes small ones a quarter faster; between
            // runs a daemon waits most of the time, on a host it shares.
            .with_intra_op_spinning(true)?
            .with_config_entry("session.force_spinning_stop", "1")?
            .with_inter_op_spinning(false)?
            // The cache grows by one token a step: no two runs have the same shapes to remember.
            .with_memory_pattern(false)?)
    };
    let builder = prepared().map_err(|error| error.to_string())?;
    provider.register(builder)?.commit_from_file(path).map_err(|error| advised(&error.to_string()))
}

/// A tensor of floats in the element type an input asks for.
pub(crate) fn floats(input: &TensorInfo, shape: &[usize], values: Vec<f32>) -> Result<DynValue> {
    let made = match input.element {
        Some(TensorElementType::Float32) => Tensor::from_array((shape, values)).map(Tensor::into_dyn),
        Some(TensorElementType::Float16) => {
            let values: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
            Tensor::from_array((shape, values)).map(Tensor::into_dyn)
        }
        _ => return Err(unsupported_element(input, "tensor(float) or tensor(float16)")),
    };
    made.map_err(|error| Error::graph(&input.name, error))
}

/// A tensor of token ids or mask values in the element type an input asks for.
pub(crate) fn integers(input: &TensorInfo, shape: &[usize], values: Vec<i64>) -> Result<DynValue> {
    let made = match input.element {
        Some(TensorElementType::Int64) => Tensor::from_array((shape, values)).map(Tensor::into_dyn),
        Some(TensorElementType::Int32) => {
            let narrow =
                |value| i32::try_from(value).map_err(|_| Error::graph(&input.name, "a token id exceeds int32"));
            let values = values.into_iter().map(narrow).collect::<Result<Vec<i32>>>()?;
            Tensor::from_array((shape, values)).map(Tensor::into_dyn)
        }
        _ => return Err(unsupported_element(input, "tensor(int64) or tensor(int32)")),
    };
    made.map_err(|error| Error::graph(&input.name, error))
}

/// The boolean switch of a merged graph.
pub(crate) fn switch(on: bool) -> Result<DynValue> {
    let tensor = Tensor::from_array(([1usize], vec![on])).map_err(|error| Error::graph("use_cache_branch", error))?;
    Ok(tensor.into_dyn())
}

/// A cache without a past: fixed dimensions as they are, a symbolic batch `batch`, any other symbolic dimension 0.
pub(crate) fn empty_cache(input: &TensorInfo, batch: usize) -> Result<DynValue> {
    let Some(element @ (TensorElementType::Float32 | TensorElementType::Float16)) = input.element else {
        return Err(unsupported_element(input, "tensor(float) or tensor(float16)"));
    };
    let size = |(index, dimension): (usize, &Dimension)| match dimension {
        Dimension::Fixed(size) => *size,
        Dimension::Symbolic(name) if index == 0 || name.starts_with("batch") => i64::try_from(batch).unwrap_or(1),
        Dimension::Symbolic(_) => 0,
    };
    let shape: Vec<i64> = input.shape.iter().enumerate().map(size).collect();
    let tensor =
        DynTensor::new(&Allocator::default(), element, shape).map_err(|error| Error::graph(&input.name, error))?;
    Ok(tensor.into_dyn())
}

/// Whether a value can be fed to an input as it is.
pub(crate) fn has_element_of(input: &TensorInfo, value: &DynValue) -> bool {
    value.dtype().tensor_type() == input.element
}

/// Shape and values of a float output, half precision widened.
pub(crate) fn read_floats<'a>(name: &str, value: &'a DynValue) -> Result<(Vec<usize>, Cow<'a, [f32]>)> {
    let fail = |error: ort::Error| Error::graph(name, error);
    let (shape, values) = if value.dtype().tensor_type() == Some(TensorElementType::Float16) {
        let (shape, values) = value.try_extract_tensor::<f16>().map_err(fail)?;
        (shape, Cow::Owned(values.iter().map(|value| value.to_f32()).collect()))
    } else {
        let (shape, values) = value.try_extract_tensor::<f32>().map_err(fail)?;
        (shape, Cow::Borrowed(values))
    };
    Ok((shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect(), values))
}

fn unsupported_element(input: &TensorInfo, supported: &str) -> Error {
    Error::unsupported(
        format!("graph input `{}` of type {}", input.name, input.dtype),
        supported,
        "export the model again",
    )
}

/// A tensor of switches in the element type an input asks for.
pub(crate) fn switches(input: &TensorInfo, shape: &[usize], values: &[bool]) -> Result<DynValue> {
    match input.element {
        Some(TensorElementType::Bool) => {
            let made = Tensor::from_array((shape, values.to_vec())).map(Tensor::into_dyn);
            made.map_err(|error| Error::graph(&input.name, error))
        }
        Some(TensorElementType::Float32 | TensorElementType::Float16) => {
            floats(input, shape, values.iter().map(|value| f32::from(u8::from(*value))).collect())
        }
        _ => integers(input, shape, values.iter().map(|value| i64::from(*value)).collect()),
    }
}

/// A whole number without dimensions, or with one where the graph asks for one.
pub(crate) fn scalar(input: &TensorInfo, value: i64) -> Result<DynValue> {
    let shape = vec![1; input.shape.len()];
    integers(input, &shape, vec![value])
}

/// A tensor of an input's element type without values in its symbolic dimensions, the first of which is `first`.
pub(crate) fn blank(input: &TensorInfo, first: usize) -> Result<DynValue> {
    let size = |(index, dimension): (usize, &Dimension)| match dimension {
        Dimension::Fixed(size) => usize::try_from(*size).unwrap_or(0),
        Dimension::Symbolic(_) if index == 0 && input.shape.len() > 2 => first,
        Dimension::Symbolic(_) => 0,
    };
    let shape: Vec<usize> = input.shape.iter().enumerate().map(size).collect();
    floats(input, &shape, vec![0.0; shape.iter().product()])
}

/// ONNX Runtime's words about a graph it does not load, and what to do.
fn advised(problem: &str) -> String {
    let lower = problem.to_lowercase();
    let advice = if lower.contains("opset") || lower.contains("ir_version") || lower.contains("ir version") {
        "export the model for an operator set that this ONNX Runtime knows, or install a newer ONNX Runtime"
    } else if lower.contains("alloc") || lower.contains("memory") {
        "the machine has too little memory for it; free some, or choose a smaller precision"
    } else if lower.contains("is not a registered function") || lower.contains("not implemented") {
        "this ONNX Runtime lacks an operator of the graph; install a newer one, or export the model again"
    } else {
        "copy the file again from the model's source, or export the model again"
    };
    format!("{}; {advice}", shown_before_advice(problem))
}
