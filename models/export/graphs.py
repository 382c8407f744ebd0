"""From a module to an ONNX file: tracing, key/value caches as inputs and outputs, attention masks, external data."""
from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, EncoderDecoderCache

OPSET = 17
# Protocol buffers end at 2 GiB; what comes near has its weights beside the graph, in FILE_data.
SINGLE_FILE_BYTES = 1_800_000_000


@dataclass
class Graph:
    """A graph to export: the file's stem, what is traced, with which inputs, and which dimensions vary."""

    stem: str
    module: torch.nn.Module
    inputs: dict[str, torch.Tensor]
    outputs: list[str]
    axes: dict[str, dict[int, str]] = field(default_factory=dict)


def export(graph: Graph, path: Path, single_file_bytes: int = SINGLE_FILE_BYTES) -> None:
    """Traces `graph` into `path`; weights go to `path`_data when there are more than `single_file_bytes` of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = Path(folder) / path.name
        torch.onnx.export(graph.module.eval(), tuple(graph.inputs.values()), str(traced),
                          input_names=list(graph.inputs), output_names=graph.outputs, dynamic_axes=graph.axes,
                          opset_version=OPSET, dynamo=False)
        save(onnx.load(traced), path, single_file_bytes)


def save(model: onnx.ModelProto, path: Path, single_file_bytes: int = SINGLE_FILE_BYTES) -> None:
    """Writes a model with all its weights in one place: the file, or one file of external data beside it."""
    data = path.with_name(path.name + "_data")
    data.unlink(missing_ok=True)
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    if weights > single_file_bytes:
        onnx.save_model(model, path, save_as_external_data=True, all_tensors_to_one_file=True, location=data.name,
                        size_threshold=1024)
        # onnx makes this file for its owner alone.
        data.chmod(path.stat().st_mode)
    else:
        onnx.save_model(model, path)


def cache_of(past: list[torch.Tensor], kind: type[DynamicLayer] = DynamicLayer) -> DynamicCache:
    """A cache that holds key, value, key, value, ... of the layers, each [batch, heads, length, size]."""
    cache = DynamicCache()
    for key, value in zip(past[::2], past[1::2]):
        layer = kind()
        layer.keys, layer.values, layer.dtype, layer.device = key, value, key.dtype, key.device
        layer.is_initialized = True
        cache.layers.append(layer)
    return cache


def tensors_of(cache: DynamicCache) -> list[torch.Tensor]:
    """Key, value, key, value, ... of a cache's layers."""
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


def allowed(attention_mask: torch.Tensor, queries: int, window: int | None = None,
            also: torch.Tensor | None = None, blocks: torch.Tensor | None = None) -> torch.Tensor:
    """Which keys each of the last `queries` positions may see, [batch, 1, queries, keys] of bool.

    Causal, or where `also` (broadcast to [batch, queries, keys]) says so; within `window` positions; where
    `attention_mask` [batch, keys] is not 0. `blocks`, of also's shape, is seen whatever the window.
    """
    keys = attention_mask.shape[1]
    key = torch.arange(keys)[None, :]
    query = (torch.arange(queries) + (keys - queries))[:, None]
    may = (key <= query)[None]
    if also is not None:
        may = may | also
    if window is not None:
        may = may & (key > query - window)[None]
    if blocks is not None:
        may = may | blocks
    return (may & (attention_mask != 0)[:, None, :])[:, None]


def additive(may: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """0 where allowed, the most negative number where not, as the attention functions add it."""
    return torch.where(may, torch.zeros((), dtype=dtype), torch.full((), torch.finfo(dtype).min, dtype=dtype))


class CausalMask(torch.nn.Module):
    """The mask of a text model whose layers all see everything before them."""

    def forward(self, inputs_embeds, attention_mask):
        return additive(allowed(attention_mask, inputs_embeds.shape[1]), inputs_embeds.dtype)


class Decoder(torch.nn.Module):
    """A decoder of embedded tokens with its head: `decoder_model_merged` of a decoder-only model.

    `masks(inputs_embeds, attention_mask)` makes the 4-D masks in the form that the text model takes. `deeper` are names
    of inputs of the shape of `inputs_embeds` that the first layers add to what they return.
    """

    def __init__(self, text_model, head, masks, softcap: float | None = None, deeper: list[str] = ()):
        super().__init__()
        self.text_model, self.head, self.masks, self.softcap = text_model, head, masks, softcap
        self.deeper = list(deeper)

    def forward(self, inputs_embeds, attention_mask, position_ids, num_logits_to_keep, *rest):
        deeper, past = list(rest[:len(self.deeper)]), list(rest[len(self.deeper):])
        cache = cache_of(past)
        hidden = self.text_model(
            inputs_embeds=inputs_embeds, attention_mask=self.masks(inputs_embeds, attention_mask),
            position_ids=position_ids, past_key_values=cache, use_cache=True, return_dict=True,
            **({"deepstack_visual_embeds": deeper} if deeper else {})).last_hidden_state
        logits = self.head(hidden[:, -num_logits_to_keep:, :])
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return (logits, *tensors_of(cache))


def decoder_graph(decoder: Decoder, config, position_rows: int | None = None) -> Graph:
    """The graph of a decoder-only text model; `position_rows` is 3 for position ids of [3, batch, sequence]."""
    layers, heads = config.num_hidden_layers, config.num_key_value_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    dtype = next(decoder.text_model.parameters()).dtype
    batch, sequence, past = 2, 4, 3
    positions = torch.arange(past, past + sequence).expand(batch, -1)
    if position_rows:
        positions = positions.expand(position_rows, batch, -1)
    names = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
    inputs = {
        "inputs_embeds": torch.randn(batch, sequence, config.hidden_size, dtype=dtype),
        "attention_mask": torch.ones(batch, past + sequence, dtype=torch.int64),
        "position_ids": positions.clone(),
        "num_logits_to_keep": torch.tensor(2),
        **{name: torch.randn(batch, sequence, config.hidden_size, dtype=dtype) for name in decoder.deeper},
        **{f"past_key_values.{name}": torch.randn(batch, heads, past, size, dtype=dtype) for name in names},
    }
    axes = {
        **{name: {0: "batch_size", 1: "sequence_length"} for name in ("inputs_embeds", *decoder.deeper)},
        "attention_mask": {0: "batch_size", 1: "total_sequence_length"},
        "position_ids": {1: "batch_size", 2: "sequence_length"} if position_rows else
                        {0: "batch_size", 1: "sequence_length"},
        "logits": {0: "batch_size", 1: "num_logits_to_keep"},
        **{f"past_key_values.{name}": {0: "batch_size", 2: "past_sequence_length"} for name in names},
        **{f"present.{name}": {0: "batch_size", 2: "total_sequence_length"} for name in names},
    }
    return Graph("decoder_model_merged", decoder, inputs, ["logits", *(f"present.{name}" for name in names)], axes)


def embed_graph(embed: torch.nn.Module) -> Graph:
    """`embed_tokens`: token ids to the vectors that the text model takes."""
    tokens = {0: "batch_size", 1: "sequence_length"}
    return Graph("embed_tokens", embed, {"input_ids": torch.zeros(2, 3, dtype=torch.int64)}, ["inputs_embeds"],
                 {"input_ids": tokens, "inputs_embeds": tokens})


class EncoderLayer(DynamicLayer):
    """Keys and values of the encoder's states: of those that come, the first `known` are in the cache already."""

    def update(self, key_states, value_states, *arguments, **options):
        self.keys = torch.cat([self.keys, key_states[:, :, self.known:]], -2)
        self.values = torch.cat([self.values, value_states[:, :, self.known:]], -2)
        return self.keys, self.values


class Seq2SeqDecoder(torch.nn.Module):
    """A decoder with cross-attention: keys and values of the encoder are computed when their cache is empty.

    `run(tokens, encoder_hidden_states, encoder_attention_mask, cache)` gives the logits. The encoder's states that the
    cache already has are cut off before the projections (all but one, as nothing cannot be reshaped), so that one graph
    serves the first step and all others.
    """

    def __init__(self, run, modules: list[torch.nn.Module], has_mask: bool):
        super().__init__()
        self.run, self.has_mask = run, has_mask
        self.parts = torch.nn.ModuleList(modules)

    def forward(self, tokens, encoder_hidden_states, *rest):
        mask, past = (rest[0], list(rest[1:])) if self.has_mask else (None, list(rest))
        own = cache_of([past[i] for i in range(len(past)) if i % 4 < 2])
        cross = cache_of([past[i] for i in range(len(past)) if i % 4 >= 2], EncoderLayer)
        cache = EncoderDecoderCache(own, cross)
        cache.is_updated = {layer: False for layer in range(len(past) // 4)}
        cached, states = torch._shape_as_tensor(past[2])[2], torch._shape_as_tensor(encoder_hidden_states)[1]
        start = torch.minimum(cached, states - 1)
        for layer in cross.layers:
            layer.known = cached - start
        unseen = encoder_hidden_states[:, start:, :].contiguous()
        logits = self.run(tokens, unseen, mask, cache)
        own, cross = tensors_of(own), tensors_of(cross)
        return (logits, *(tensor for i in range(0, len(own), 2) for tensor in (*own[i:i + 2], *cross[i:i + 2])))


def seq2seq_decoder_graph(decoder: Seq2SeqDecoder, tokens: dict[str, torch.Tensor], layers: int, heads: int, size: int,
                          encoder_size: int) -> Graph:
    """The graph of a decoder with cross-attention over states of `encoder_size`."""
    dtype = next(decoder.parameters()).dtype
    batch, length, past = 2, 6, 2
    names = [f"{layer}.{side}.{part}" for layer in range(layers) for side in ("decoder", "encoder")
             for part in ("key", "value")]
    inputs = {**tokens, "encoder_hidden_states": torch.randn(batch, length, encoder_size, dtype=dtype)}
    axes = {name: {0: "batch_size", 1: "decoder_sequence_length"} for name in (*tokens, "logits")}
    axes["encoder_hidden_states"] = {0: "batch_size", 1: "encoder_sequence_length"}
    if decoder.has_mask:
        inputs["encoder_attention_mask"] = torch.ones(batch, length, dtype=torch.int64)
        axes["encoder_attention_mask"] = {0: "batch_size", 1: "encoder_sequence_length"}
    for name in names:
        side = "encoder" if ".encoder." in name else "decoder"
        # At the time of tracing the encoder's cache has fewer states than the encoder, so that the rest is computed.
        inputs[f"past_key_values.{name}"] = torch.randn(batch, heads, past, size, dtype=dtype)
        axes[f"past_key_values.{name}"] = {0: "batch_size", 2: f"past_{side}_sequence_length"}
        axes[f"present.{name}"] = {0: "batch_size", 2: f"present_{side}_sequence_length"}
    return Graph("decoder_model_merged", decoder, inputs, ["logits", *(f"present.{name}" for name in names)], axes)
