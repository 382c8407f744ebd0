"""The plain loop over exported graphs with ONNX Runtime in Python: what the export is checked with."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (ForcedBOSTokenLogitsProcessor, ForcedEOSTokenLogitsProcessor,
                                                    NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor)

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(bool)": bool}


class Session:
    """A graph: feeds are cast to what its inputs take, and those it does not have are left out."""

    def __init__(self, path: Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {value.name: value for value in self.session.get_inputs()}
        self.outputs = [value.name for value in self.session.get_outputs()]

    def __call__(self, feeds: dict) -> dict[str, np.ndarray]:
        feeds = {name: np.asarray(value).astype(TYPES[self.inputs[name].type]) for name, value in feeds.items()
                 if name in self.inputs}
        return dict(zip(self.outputs, self.session.run(None, feeds)))

    def empty_cache(self, batch: int) -> dict[str, np.ndarray]:
        """Zero-length keys and values, as the graph's inputs state their other dimensions."""
        return {name: np.zeros([batch, value.shape[1], 0, value.shape[3]], TYPES[value.type])
                for name, value in self.inputs.items() if name.startswith("past_key_values.")}

    def interface(self) -> dict:
        """Names, types and dimensions of inputs and outputs."""
        return {side: [[value.name, value.type, value.shape] for value in values]
                for side, values in (("inputs", self.session.get_inputs()), ("outputs", self.session.get_outputs()))}


class Model:
    """The graphs of a folder, of one data type (the suffix of their files)."""

    def __init__(self, folder: Path, suffix: str = ""):
        stems = ("vision_encoder", "embed_tokens", "encoder_model", "decoder_model_merged", "model")
        self.graphs = {stem: Session(folder / f"{stem}{suffix}.onnx") for stem in stems
                       if (folder / f"{stem}{suffix}.onnx").exists()}

    def interface(self, suffix: str = "") -> dict:
        return {f"{stem}{suffix}.onnx": graph.interface() for stem, graph in self.graphs.items()}

    def chat(self, vision_feeds: dict, arrange, input_ids: list[int], image_token: int, positions: np.ndarray,
             gen: dict, eos: list[int]) -> dict:
        """A decoder-only answer: features take the places of the image's tokens.

        `arrange(outputs)` makes of the vision graph's outputs what goes there, [tokens, hidden] of float32.
        """
        embed, decoder = self.graphs["embed_tokens"], self.graphs["decoder_model_merged"]
        seen_by_vision = self.graphs["vision_encoder"](vision_feeds)
        features = arrange(seen_by_vision)
        embeds = embed({"input_ids": [input_ids]})["inputs_embeds"]
        places = np.array(input_ids) == image_token
        if places.sum() != len(features):
            raise ValueError(f"{places.sum()} image tokens in the prompt, {len(features)} features of the images")
        embeds[0, places] = features.astype(embeds.dtype)
        following = int(positions.max()) + 1
        # What the decoder takes under the name that the vision graph gives it: for each token, 0 for those of no image.
        besides = {}
        for name in seen_by_vision.keys() & decoder.inputs.keys():
            besides[name] = np.zeros_like(embeds)
            besides[name][0, places] = seen_by_vision[name].astype(embeds.dtype)

        def step(cache, ids, seen):
            fed = embeds if seen == 0 else embed({"input_ids": [ids[-1:]]})["inputs_embeds"]
            at = positions if seen == 0 else np.full((*positions.shape[:-1], 1), following + seen - len(input_ids))
            return decoder({"inputs_embeds": fed, "attention_mask": np.ones((1, seen + fed.shape[1])),
                            "position_ids": at, "num_logits_to_keep": 1, **cache,
                            **{name: value if seen == 0 else np.zeros_like(fed) for name, value in besides.items()}})

        return {**self._generate(step, decoder, input_ids, 0, gen, eos), "image_features": features}

    def seq2seq(self, encoder_hidden_states: np.ndarray, start: list[int], gen: dict, eos: list[int]) -> dict:
        """An encoder-decoder answer that begins with `start`."""
        decoder, embed = self.graphs["decoder_model_merged"], self.graphs.get("embed_tokens")
        mask = np.ones(encoder_hidden_states.shape[:2])

        def step(cache, ids, seen):
            fed = [ids[seen:]]
            tokens = {"inputs_embeds": embed({"input_ids": fed})["inputs_embeds"]} if embed else {"input_ids": fed}
            return decoder({**tokens, "encoder_hidden_states": encoder_hidden_states, "encoder_attention_mask": mask,
                            **cache})

        return self._generate(step, decoder, start, len(start), gen, eos)

    @staticmethod
    def _generate(step, decoder: Session, prompt: list[int], kept: int, gen: dict, eos: list[int]) -> dict:
        """Greedy search; `kept` tokens of the prompt belong to the answer. Logits are those before any processing."""
        processors = LogitsProcessorList()
        if gen.get("repetition_penalty", 1.0) != 1.0:
            processors.append(RepetitionPenaltyLogitsProcessor(gen["repetition_penalty"]))
        if gen.get("no_repeat_ngram_size", 0):
            processors.append(NoRepeatNGramLogitsProcessor(gen["no_repeat_ngram_size"]))
        steps = gen.get("max_new_tokens") or gen["max_length"] - len(prompt)
        if gen.get("forced_bos_token_id") is not None:
            processors.append(ForcedBOSTokenLogitsProcessor(gen["forced_bos_token_id"]))
        if gen.get("forced_eos_token_id") is not None:
            processors.append(ForcedEOSTokenLogitsProcessor(len(prompt) + steps, gen["forced_eos_token_id"]))
        ids, cache, seen, logits = list(prompt), decoder.empty_cache(1), 0, []
        for _ in range(steps):
            found = step(cache, ids, seen)
            seen = len(ids)
            cache = {name.replace("present", "past_key_values"): value for name, value in found.items()
                     if name.startswith("present")}
            logits.append(found["logits"][0, -1].astype(np.float32))
            scores = processors(torch.tensor([ids]), torch.tensor(logits[-1][None]))
            ids.append(int(scores.argmax()))
            if ids[-1] in eos:
                break
        return {"generated_ids": ids[len(prompt) - kept:], "logits": np.stack(logits)}
