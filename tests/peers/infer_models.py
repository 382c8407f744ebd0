"""Writes model folders of real size with random weights, for `cargo xtask bench infer`.

python infer_models.py smolvlm FOLDER        SmolVLM-256M's shapes, layout A, float32 and q8
python infer_models.py qwen_vl FOLDER        Qwen2-VL-2B's shapes, layout C, 4-bit weights

The graphs come from the exporters in models/export and from onnxruntime-genai's builder. The tokenizers are those of the
exporters' tiny models: random weights say nothing, so what they write is never read.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models"))
from export.families import family
from export.family import copy_side_files
from export.graphs import Graph, export
from export.quantize import SUFFIX, quantize
from export.tiny import pictures, write_json

def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def randomise(model):
    """Small weights from a seed; faster than a normal distribution over two billion of them."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                bound = 1.7 / weight[0].numel() ** 0.5
                weight.copy_(torch.empty(weight.shape, dtype=weight.dtype).uniform_(-bound, bound, generator=generator))
            else:
                weight.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.01)
    return model.eval()


def tiny(chosen, out):
    """The files beside the weights of a tiny model of the class, and its configuration."""
    with tempfile.TemporaryDirectory() as folder:
        chosen.tiny(0, Path(folder))
        copy_side_files(Path(folder), out)
    return read_json(out / "config.json")


def smolvlm_config(out):
    chosen = family("idefics3")
    config = tiny(chosen, out)
    config["text_config"] |= dict(
        vocab_size=49280, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, head_dim=64, max_position_embeddings=8192)
    config["vision_config"] |= dict(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=512,
        patch_size=16)
    config["scale_factor"] = 4
    write_json(out / "config.json", config)
    processor = read_json(out / "processor_config.json")
    processor["image_seq_len"] = 64
    # Tiles of 512 pixels as published, of an image whose longest edge is 1024 (published: 2048): 5 tiles and not 17.
    processor["image_processor"] |= {"size": {"longest_edge": 1024}, "max_image_size": {"longest_edge": 512}}
    write_json(out / "processor_config.json", processor)
    return chosen, config


def qwen_config(out):
    chosen = family("qwen2_5_vl")
    config = tiny(chosen, out)
    config["text_config"] |= dict(
        vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
        num_key_value_heads=2, max_position_embeddings=32768, max_window_layers=28,
        rope_parameters={"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1000000.0})
    config["text_config"]["layer_types"] = ["full_attention"] * 28
    # A quarter of the 32 layers, so that a round takes a minute.
    config["vision_config"] |= dict(
        depth=8, hidden_size=1280, intermediate_size=3420, num_heads=16, patch_size=14, spatial_merge_size=2,
        temporal_patch_size=2, window_size=112, fullatt_block_indexes=[3, 7], out_hidden_size=1536)
    write_json(out / "config.json", config)
    images = read_json(out / "preprocessor_config.json")
    for name in ("min_pixels", "max_pixels"):
        images.pop(name, None)
    images |= {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2,
               "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 320}}
    write_json(out / "preprocessor_config.json", images)
    return chosen, config


def model_of(chosen, config, dtype):
    """A model of a configuration with random weights in `dtype`."""
    torch.set_default_dtype(dtype)
    try:
        made = chosen.model_class(chosen.model_class.config_class.from_dict(config))
    finally:
        torch.set_default_dtype(torch.float32)
    return randomise(made)


def smolvlm(out):
    chosen, config = smolvlm_config(out)
    model = model_of(chosen, config, torch.float32)
    for graph in chosen.graphs(model):
        path = out / "onnx" / f"{graph.stem}.onnx"
        export(graph, path)
        quantize(path, path.with_name(f"{graph.stem}{SUFFIX['q8']}.onnx"), "q8")
    sizes = {dtype: weight_bytes(onnx.load(out / "onnx" / f"decoder_model_merged{SUFFIX[dtype]}.onnx"))
             for dtype in ("fp32", "q8")}
    write_json(out / "decoder_bytes.json", sizes)


def weight_bytes(model):
    """Bytes of a graph's weights, whether they lie in it or beside it."""
    def size(tensor):
        return next((int(entry.value) for entry in tensor.external_data if entry.key == "length"), tensor.ByteSize())
    return sum(size(tensor) for tensor in model.graph.initializer)


class Embedding(torch.nn.Module):
    """Token ids and the images' features in, embeddings with the features in the places of the image's tokens out."""

    def __init__(self, embed, image_token):
        super().__init__()
        self.embed, self.image_token = embed, image_token

    def forward(self, input_ids, image_features):
        places = input_ids == self.image_token
        padded = torch.cat([image_features, torch.zeros(1, image_features.shape[1])])
        index = torch.clamp(places.reshape(-1).long().cumsum(0) - 1, min=0).reshape(input_ids.shape)
        index = torch.where(places, index, padded.shape[0] - 1)
        return torch.where(places[..., None], padded[index], self.embed(input_ids))


def qwen_vl(out):
    chosen, config = qwen_config(out)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        checkpoint, built = Path(folder) / "checkpoint", Path(folder) / "built"
        model = model_of(chosen, config, torch.bfloat16)
        model.save_pretrained(checkpoint)
        copy_side_files(out, checkpoint)
        model.model.visual.float()
        vision = next(graph for graph in chosen.graphs(model) if graph.stem == "vision_encoder")
        vision.inputs["pixel_values"] = vision.inputs["pixel_values"].float()
        export(vision, out / "vision.onnx")
        embed = Embedding(model.get_input_embeddings().float(), config["image_token_id"])
        hidden = config["text_config"]["hidden_size"]
        tokens = {0: "batch_size", 1: "sequence_length"}
        export(Graph("embedding", embed, {"input_ids": torch.zeros(1, 5, dtype=torch.int64),
                                          "image_features": torch.zeros(3, hidden)}, ["inputs_embeds"],
                     {"input_ids": tokens, "image_features": {0: "num_tokens"}, "inputs_embeds": tokens}),
               out / "embedding.onnx")
        del model, vision, embed
        subprocess.run([sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(checkpoint), "-o", str(built),
                        "-p", "int4", "-e", "cpu", "-c", str(Path(folder) / "cache")], check=True,
                       stdout=sys.stderr)
        genai = out / "genai"
        built.rename(genai)
    text_of(genai, out)


def text_of(genai, out):
    """The same graph without the embedding, over the same weights, and a configuration with vision."""
    text = onnx.load(genai / "model.onnx", load_external_data=False)
    graph = text.graph
    lookup = next(node for node in graph.node if "input_ids" in node.input)
    hidden = lookup.output[0]
    graph.node.remove(lookup)
    graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == lookup.input[0]))
    graph.input.remove(next(value for value in graph.input if value.name == "input_ids"))
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == hidden:
                node.input[place] = "inputs_embeds"
    config = read_json(genai / "genai_config.json")
    width = config["model"]["decoder"]["hidden_size"]
    graph.input.insert(0, onnx.helper.make_tensor_value_info(
        "inputs_embeds", onnx.TensorProto.FLOAT, ["batch_size", "sequence_length", width]))
    onnx.save_model(text, out / "text.onnx")
    (out / "model.onnx.data").hardlink_to(genai / "model.onnx.data")
    decoder = config["model"]["decoder"]
    decoder["filename"] = "text.onnx"
    decoder["inputs"].pop("input_ids")
    decoder["inputs"]["inputs_embeds"] = "inputs_embeds"
    config["model"] |= {
        "type": "qwen2_5_vl",
        "vision": {"filename": "vision.onnx", "inputs": {"pixel_values": "pixel_values",
                                                         "image_grid_thw": "image_grid_thw"},
                   "outputs": {"image_features": "image_features"}},
        "embedding": {"filename": "embedding.onnx", "inputs": {"input_ids": "input_ids",
                                                               "image_features": "image_features"},
                      "outputs": {"inputs_embeds": "inputs_embeds"}}}
    write_json(out / "genai_config.json", config)
    write_json(out / "decoder_bytes.json", {"q4": weight_bytes(text)})


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    where = Path(sys.argv[2])
    where.mkdir(parents=True, exist_ok=True)
    {"smolvlm": smolvlm, "qwen_vl": qwen_vl}[sys.argv[1]](where)
    pictures(0, [(1024, 768)])[0].save(where / "image.png")
