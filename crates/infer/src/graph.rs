//! One ONNX graph: its inputs and outputs as the file states them, and running it.

use std::{borrow::Cow, path::Path, sync::Arc};

use half::f16;
use ort::{
    memory::Allocator,
    session::{RunOptions, Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::{DynTensor, DynValue, Outlet, Tensor, TensorElementType, ValueType},
};
use serde::{Serialize, Serializer, ser::SerializeTuple};

use crate::{
    cancel::Cancel,
    error::{Error, Result},
    model::SessionOptions,
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
}

/// A graph of a loaded model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GraphInfo {
    /// File name.
    pub file: String,
    /// Inputs, in the graph's order.
    pub inputs: Vec<TensorInfo>,
    /// Outputs, in the graph's order.
    pub outputs: Vec<TensorInfo>,
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
    fn new(outlet: &Outlet) -> Self {
        let name = outlet.name().to_owned();
        match outlet.dtype() {
            ValueType::Tensor { ty, shape, dimension_symbols } => {
                let dimension = |(size, symbol): (&i64, &String)| match *size {
                    size if size >= 0 => Dimension::Fixed(size),
                    _ => Dimension::Symbolic(symbol.clone()),
                };
                let shape = shape.iter().zip(dimension_symbols.iter()).map(dimension).collect();
                Self { name, dtype: format!("tensor({})", onnx_name(*ty)), shape, element: Some(*ty) }
            }
            other => Self { name, dtype: other.to_string(), shape: Vec::new(), element: None },
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
}

impl Graph {
    /// Loads by path, never from memory: weights may lie in files beside the graph.
    pub(crate) fn load(path: &Path, runtime: &Runtime, options: &SessionOptions) -> Result<Self> {
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let session = build(path, runtime, options).map_err(|error| Error::graph(&file, error))?;
        let inputs = session.inputs().iter().map(TensorInfo::new).collect();
        let outputs = session.outputs().iter().map(TensorInfo::new).collect();
        Ok(Self { session, info: Arc::new(GraphInfo { file, inputs, outputs }) })
    }

    pub(crate) fn info(&self) -> &Arc<GraphInfo> {
        &self.info
    }

    pub(crate) fn input(&self, name: &str) -> Option<&TensorInfo> {
        self.info.inputs.iter().find(|input| input.name == name)
    }

    /// Position of an output among the values `run` returns.
    pub(crate) fn output(&self, name: &str) -> Option<usize> {
        self.info.outputs.iter().position(|output| output.name == name)
    }

    /// Runs the graph; the values come in the order of its outputs.
    pub(crate) fn run(&mut self, feeds: Feeds<'_>, cancel: &Cancel) -> Result<Vec<DynValue>> {
        let fail = |error: ort::Error| Error::graph(&self.info.file, error);
        let options = Arc::new(RunOptions::new().map_err(fail)?);
        cancel.watch(&options)?;
        match self.session.run_with_options(feeds, &*options) {
            Ok(outputs) => Ok(outputs.into_iter().map(|(_, value)| value).collect()),
            // An interrupted run fails with ONNX Runtime's words; the reason is ours.
            Err(error) => Err(cancel.check().err().unwrap_or_else(|| Error::graph(&self.info.file, error))),
        }
    }
}

fn build(path: &Path, runtime: &Runtime, options: &SessionOptions) -> ort::Result<Session> {
    Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.threads.max(1))?
        .with_inter_threads(1)?
        // A daemon waits most of the time, on a host it shares.
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // The cache grows by one token a step: no two runs have the same shapes to remember.
        .with_memory_pattern(false)?
        .commit_from_file(path)
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
