"""From a checkpoint to a model folder."""
from __future__ import annotations

from pathlib import Path

import torch

from .family import Family, copy_side_files
from .graphs import SINGLE_FILE_BYTES, export
from .quantize import SUFFIX, quantize


def folder_of(source: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint; a name on the hub is fetched at `revision`, or taken from the hub's cache."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download
    wanted = ["*.json", "*.jinja", "*.txt", "*.model", "*.safetensors"]
    return Path(snapshot_download(source, revision=revision, allow_patterns=wanted))


def export_model(family: Family, source: Path, out: Path, dtypes: list[str],
                 single_file_bytes: int = SINGLE_FILE_BYTES) -> None:
    """Writes the graphs of the checkpoint in `source`, in each of `dtypes`, and the files that say how to use them."""
    copy_side_files(source, out)
    if not (source / "tokenizer.json").exists():
        getattr(family, "tokenizer_file", tokenizer_file)(source, out)
    graphs = out / family.graph_folder
    wanted = [dtype for dtype in dtypes if dtype != "fp16"]
    if wanted:
        _export(family, source, graphs, "fp32", torch.float32, single_file_bytes)
    if "fp16" in dtypes:
        _export(family, source, graphs, "fp16", torch.float16, single_file_bytes)
    stems = sorted(path for path in graphs.glob("*.onnx") if path.stem in STEMS)
    for dtype in (dtype for dtype in wanted if dtype != "fp32"):
        for path in stems:
            quantize(path, path.with_name(path.stem + SUFFIX[dtype] + ".onnx"), dtype,
                     single_file_bytes=single_file_bytes)
    if wanted and "fp32" not in dtypes:
        for path in stems:
            path.unlink()
            path.with_name(path.name + "_data").unlink(missing_ok=True)


STEMS = ("vision_encoder", "embed_tokens", "encoder_model", "decoder_model_merged", "model")


def _export(family: Family, source: Path, folder: Path, dtype: str, kind: torch.dtype, single_file_bytes: int) -> None:
    model = family.load(str(source), kind)
    for graph in family.graphs(model):
        export(graph, folder / f"{graph.stem}{SUFFIX[dtype]}.onnx", single_file_bytes)


def tokenizer_file(source: Path, out: Path) -> None:
    """Writes tokenizer.json for a checkpoint that has only the older files of a tokenizer."""
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(source)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise SystemExit(f"{source} has no tokenizer.json and {type(tokenizer).__name__} cannot make one: put one "
                         "beside config.json (from a repository that has the same tokenizer) and export again")
    backend.save(str(out / "tokenizer.json"))
