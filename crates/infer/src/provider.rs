//! Execution providers: what of a machine runs the graphs.

use std::{fmt, str::FromStr};

use ort::{
    ep::{self, ExecutionProviderDispatch},
    session::builder::SessionBuilder,
};
use serde::{Deserialize, Serialize};

/// What runs the graphs. Everything but the processor needs an ONNX Runtime library that was built with it, and its
/// drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// The first that works of CUDA, MIGraphX, OpenVINO and the processor; the log and [`crate::GraphInfo`] say which.
    Auto,
    /// NVIDIA's CUDA.
    Cuda,
    /// NVIDIA's TensorRT, and CUDA for what it does not run.
    TensorRt,
    /// Intel's OpenVINO.
    OpenVino,
    /// AMD's MIGraphX.
    MiGraphX,
}

/// The order in which `auto` tries. TensorRT builds an engine for minutes, so it has to be asked for by name.
const TRIED: [Provider; 3] = [Provider::Cuda, Provider::MiGraphX, Provider::OpenVino];

impl Provider {
    /// What to try one after the other; the last has to work.
    pub(crate) fn candidates(self) -> Vec<Self> {
        match self {
            Self::Auto => TRIED.into_iter().filter(|provider| provider.is_built_in()).chain([Self::Cpu]).collect(),
            provider => vec![provider],
        }
    }

    fn dispatches(self) -> Vec<ExecutionProviderDispatch> {
        match self {
            Self::Cpu | Self::Auto => Vec::new(),
            Self::Cuda => vec![ep::CUDA::default().build()],
            Self::TensorRt => vec![ep::TensorRT::default().build(), ep::CUDA::default().build()],
            Self::OpenVino => vec![ep::OpenVINO::default().build()],
            Self::MiGraphX => vec![ep::MIGraphX::default().build()],
        }
    }

    /// Whether the loaded library was built with it.
    fn is_built_in(self) -> bool {
        use ort::ep::ExecutionProvider;
        let available = match self {
            Self::Cpu | Self::Auto => return true,
            Self::Cuda => ep::CUDA::is_available(),
            Self::TensorRt => ep::TensorRT::is_available(),
            Self::OpenVino => ep::OpenVINO::is_available(),
            Self::MiGraphX => ep::MIGraphX::is_available(),
        };
        available.unwrap_or(false)
    }

    /// Registers it with a session.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub(crate) fn register(self, builder: SessionBuilder) -> Result<SessionBuilder, String> {
        if !self.is_built_in() {
            return Err(format!(
                "this ONNX Runtime library was built without {self}; name a libonnxruntime.so that has it, or use cpu"
            ));
        }
        let dispatches: Vec<_> =
            self.dispatches().into_iter().map(ExecutionProviderDispatch::error_on_failure).collect();
        if dispatches.is_empty() {
            return Ok(builder);
        }
        builder.with_execution_providers(dispatches).map_err(|error| {
            format!(
                "{self} does not start: {error}; install its driver and libraries beside ONNX Runtime's, or use cpu"
            )
        })
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Auto => "auto",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
            Self::MiGraphX => "migraphx",
        })
    }
}

impl FromStr for Provider {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let all = [Self::Cpu, Self::Auto, Self::Cuda, Self::TensorRt, Self::OpenVino, Self::MiGraphX];
        let found = all.into_iter().find(|provider| provider.to_string() == name);
        found.ok_or_else(|| {
            format!("{name:?} is no execution provider; known: cpu, auto, cuda, tensorrt, openvino, migraphx")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for name in ["cpu", "auto", "cuda", "tensorrt", "openvino", "migraphx"] {
            assert_eq!(name.parse::<Provider>().expect("known").to_string(), name);
        }
        assert!("gpu".parse::<Provider>().expect_err("unknown").contains("cuda"));
        assert_eq!(Provider::Cuda.candidates(), [Provider::Cuda]);
    }
}
