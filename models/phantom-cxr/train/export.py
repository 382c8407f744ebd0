"""From a checkpoint to the files a reader loads: two ONNX graphs, the tokenizer and the configuration."""
from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch

import phantom
from model import BOS, EOS, GRID, MAX_LENGTH, PAD, SPECIAL, TOKEN, UNK, VOCAB, Model

LABELS = phantom.LABELS
ATTENTION_LAYER = 1
OPSET = 17
NOTICE = "Demonstration model trained only on synthetic phantoms; it knows nothing about patients."


class EncoderGraph(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixel_values):
        hidden, find, _ = self.encoder(pixel_values)
        return hidden, find


class DecoderGraph(torch.nn.Module):
    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, input_ids, encoder_hidden_states, *past):
        pairs = [(past[2 * i], past[2 * i + 1]) for i in range(len(past) // 2)]
        logits, present, cross = self.decoder(input_ids, encoder_hidden_states, pairs)
        return (logits, *[t for pair in present for t in pair], *cross)


def tokenizer_json():
    special = [dict(id=i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
               for i, t in enumerate(SPECIAL)]
    meta = dict(type="Metaspace", replacement="\u2581", prepend_scheme="always", split=True)
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            meta, {"type": "Split", "pattern": {"String": "."}, "behavior": "Isolated", "invert": False}]},
        "post_processor": {"type": "TemplateProcessing",
                           "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                      {"Sequence": {"id": "A", "type_id": 0}},
                                      {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                           "special_tokens": {t: {"id": t, "ids": [i], "tokens": [t]}
                                              for t, i in (("<s>", BOS), ("</s>", EOS))}},
        "decoder": meta,
        "model": {"type": "WordLevel", "vocab": TOKEN, "unk_token": "<unk>"},
    }


def export(checkpoint: Path, out: Path):
    model = Model(len(LABELS))
    model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    model.eval()
    out.mkdir(parents=True, exist_ok=True)
    layers, heads, dim = len(model.decoder.layers), model.heads, model.dim
    batch = {0: "batch"}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(EncoderGraph(model.encoder), (torch.randn(2, 3, 256, 256),), str(out / "encoder_model.onnx"),
                          input_names=["pixel_values"], output_names=["last_hidden_state", "finding_logits"],
                          dynamic_axes=dict(pixel_values=batch, last_hidden_state=batch, finding_logits=batch),
                          opset_version=OPSET, dynamo=False)
        past_names = [f"past_key_values.{i}.{x}" for i in range(layers) for x in ("key", "value")]
        present_names = [f"present.{i}.{x}" for i in range(layers) for x in ("key", "value")]
        cross_names = [f"cross_attentions.{i}" for i in range(layers)]
        axes = {"input_ids": {0: "batch", 1: "sequence"}, "encoder_hidden_states": batch,
                "logits": {0: "batch", 1: "sequence"}}
        axes |= {n: {0: "batch", 2: "past_sequence"} for n in past_names}
        axes |= {n: {0: "batch", 2: "total_sequence"} for n in present_names}
        axes |= {n: {0: "batch", 2: "sequence"} for n in cross_names}
        past = [torch.randn(2, heads, 5, dim // heads) for _ in past_names]
        torch.onnx.export(DecoderGraph(model.decoder),
                          (torch.randint(4, 9, (2, 3)), torch.randn(2, GRID * GRID, dim), *past),
                          str(out / "decoder_model_merged.onnx"),
                          input_names=["input_ids", "encoder_hidden_states", *past_names],
                          output_names=["logits", *present_names, *cross_names],
                          dynamic_axes=axes, opset_version=OPSET, dynamo=False)

    def write(name, value):
        (out / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    ids = dict(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, decoder_start_token_id=BOS)
    write("config.json", {
        "architectures": ["VisionEncoderDecoderModel"], "model_type": "vision-encoder-decoder",
        "is_encoder_decoder": True, **ids, "tie_word_embeddings": False,
        "id2label": {str(i): n for i, n in enumerate(LABELS)}, "label2id": {n: i for i, n in enumerate(LABELS)},
        "encoder": {"model_type": "phantom-cxr-encoder", "hidden_size": dim, "image_size": 256, "patch_size": 16,
                    "num_channels": 3, "num_hidden_layers": 1, "num_attention_heads": heads},
        "decoder": {"model_type": "phantom-cxr-decoder", "hidden_size": dim, "num_hidden_layers": layers,
                    "num_attention_heads": heads, "vocab_size": len(VOCAB), "max_position_embeddings": MAX_LENGTH,
                    "is_decoder": True, "add_cross_attention": True, **ids}})
    write("generation_config.json", {**ids, "max_length": MAX_LENGTH, "num_beams": 1, "do_sample": False})
    write("preprocessor_config.json", {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 256, "width": 256},
        "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})
    write("tokenizer.json", tokenizer_json())
    write("tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[BOS], "eos_token": SPECIAL[EOS],
        "pad_token": SPECIAL[PAD], "unk_token": SPECIAL[UNK], "model_max_length": MAX_LENGTH,
        "clean_up_tokenization_spaces": False})
    (out / "model.toml").write_text(f'''# What a reader has to know about this model beside its graphs.
name = "phantom-cxr"
version = "1"
licence = "MIT OR Apache-2.0"
intended_use = "Demonstration and tests of the reading pipeline. Not cleared for clinical use, and not for use with patients."
notice = "{NOTICE}"
modality = ["CR", "DX"]
body_part = ["CHEST"]
view = ["PA", "AP"]
# The names of the encoder's finding_logits stand in config.json, id2label.

# A sentence's heat map: mean over the heads of this layer, mean over the positions that predicted the sentence's
# tokens (full stop included), as rows x columns of the whole image. The layer was trained to look at the finding.
[attention]
source = "cross_attentions"
layer = {ATTENTION_LAYER}
grid = [{GRID}, {GRID}]
''', encoding="utf-8")
