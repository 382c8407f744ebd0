"""Smaller weights: onnxruntime's quantizers over the exported float32 graphs."""
from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from .graphs import SINGLE_FILE_BYTES, save

# Suffixes of the files, as the onnx-community names them.
SUFFIX = {"fp32": "", "fp16": "_fp16", "q8": "_quantized", "q4": "_q4"}


def quantize(source: Path, target: Path, dtype: str, block_size: int = 32,
             single_file_bytes: int = SINGLE_FILE_BYTES) -> None:
    """Writes the graph at `source` with the weights of its matrix products in 8 (`q8`) or 4 bits (`q4`).

    q8: dynamic, per tensor, signed weights; q4: blocks of `block_size` rows with float32 scales, symmetric, and
    products computed in float32 (accuracy level 0), because a lower level can change which token is best. Embeddings,
    convolutions and normalisations keep their type.
    """
    # The quantizers tell of every operator.
    for name in (None, "onnxruntime.quantization.matmul_nbits_quantizer"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if dtype == "q4":
        quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=block_size, is_symmetric=True, accuracy_level=0)
        quantizer.process()
        save(quantizer.model.model, target, single_file_bytes)
        return
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        whole = Path(folder) / target.name
        quantize_dynamic(source, whole, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8,
                         use_external_data_format=True, extra_options={"MatMulConstBOnly": True})
        save(onnx.load(whole), target, single_file_bytes)
