"""What a family says so that its models can be exported and checked. Defaults: a chat model of embedded tokens."""
from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from PIL import Image

from .graphs import Decoder, Graph, decoder_graph, embed_graph

# What lies beside the weights of a published model and says how they are used.
SIDE_FILES = ("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
              "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
              "chat_template.jinja", "chat_template.json", "vocab.json", "merges.txt", "tokenizer.model",
              "spiece.model")


@dataclass
class Case:
    """A request of the check: pictures by their index, the text, the options of `generate`."""

    images: list[int]
    text: str = ""
    gen: dict = field(default_factory=lambda: {"max_new_tokens": 12})
    mode: str = "greedy"
    processor: dict = field(default_factory=dict)


class Family:
    """A family of models with one class in Transformers."""

    name: str
    model_class = transformers.AutoModelForImageTextToText
    # Folder of the graphs within the model's folder.
    graph_folder = "onnx"
    # Sizes (width, height) of the pictures of the check.
    sizes = [(97, 61), (40, 133), (64, 64), (5, 3)]
    # Name of the processor's result that says where the pictures go.
    image_arguments: tuple[str, ...] = ("pixel_values",)

    def load(self, folder: str, dtype: torch.dtype = torch.float32):
        """The model of a folder or of a name on the hub, with attention that can be traced."""
        return self.model_class.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()

    def processor(self, folder: str):
        """What turns text and pictures into the model's inputs, as Transformers does it."""
        return transformers.AutoProcessor.from_pretrained(folder)

    def tiny(self, seed: int, folder: Path) -> None:
        """Writes a random model of the class to `folder`, as `save_pretrained` does."""
        raise NotImplementedError

    def graphs(self, model) -> list[Graph]:
        """The graphs to export."""
        raise NotImplementedError

    def cases(self, seed: int) -> list[Case]:
        """What the check asks."""
        beam = {"max_new_tokens": 10, "num_beams": 3, "length_penalty": 1.0, "early_stopping": True}
        return [
            Case([0], "Describe this X-ray."),
            Case([1], "Is there a nodule? "),
            Case([2], "Findings and impression: Größe 12,5 mm, 胸部X線"),
            Case([3], "Describe"),
            Case([0], "What are the findings?", {"max_new_tokens": 12, "repetition_penalty": 1.4}, "rep1.4"),
            Case([1], "No effusion?", {"max_new_tokens": 14, "no_repeat_ngram_size": 2}, "ngram2"),
            Case([2], "Describe the heart", beam, "beam3"),
            Case([0, 1], "Compare the second image with the first.", mode="two_images"),
            Case([3, 2, 1], "What has changed?", mode="three_images"),
        ]

    def messages(self, case: Case) -> list[dict] | None:
        """The chat of a case, or none where the family has no chat."""
        content = [{"type": "image"} for _ in case.images] + [{"type": "text", "text": case.text}]
        return [{"role": "user", "content": content}]

    def encode(self, processor, case: Case, images: list[Image.Image]) -> tuple[dict, dict]:
        """The inputs of `generate`, and what expected.json says about the prompt."""
        messages = self.messages(case)
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        special = not (processor.tokenizer.bos_token and text.startswith(processor.tokenizer.bos_token))
        inputs = processor(text=text, images=[images], return_tensors="pt", add_special_tokens=special,
                           **case.processor)
        return dict(inputs), {"messages": messages, "prompt_template": text,
                              "prompt": processor.tokenizer.decode(inputs["input_ids"][0])}

    def features(self, model, inputs: dict) -> torch.Tensor:
        """What the vision side gives for the inputs, [tokens, hidden]."""
        found = model.get_image_features(**{name: inputs[name] for name in self.image_arguments})
        found = found if isinstance(found, (torch.Tensor, list, tuple)) else found.pooler_output
        found = torch.cat(list(found)) if isinstance(found, (list, tuple)) else found
        return found.reshape(-1, found.shape[-1])

    def vision_feeds(self, inputs: dict) -> dict:
        """What the vision graph is fed, by the names of its inputs."""
        return {name: inputs[name].numpy() for name in self.image_arguments}

    def arrange(self, model, found: dict, inputs: dict):
        """What takes the places of the image's tokens, [tokens, hidden], from the outputs of the vision graph."""
        features = found["image_features"]
        return features.reshape(-1, features.shape[-1]).astype("float32")

    def positions(self, model, inputs: dict) -> torch.Tensor:
        """Position ids of the prompt."""
        return torch.arange(inputs["input_ids"].shape[1])[None]

    def extra(self, model, inputs: dict, case: Case) -> dict:
        """Further fields of a case in expected.json."""
        return {"image_token_id": self.image_token(model)}

    def image_token(self, model) -> int:
        return model.config.image_token_id


def decoder_graphs(model, text_model, masks, softcap=None, position_rows=None, deeper=()) -> list[Graph]:
    """`embed_tokens` and `decoder_model_merged` of a decoder-only model."""
    decoder = Decoder(text_model, model.get_output_embeddings(), masks, softcap, deeper)
    return [embed_graph(model.get_input_embeddings()),
            decoder_graph(decoder, model.config.get_text_config(), position_rows)]


def copy_side_files(source: Path, out: Path) -> None:
    """Copies what lies beside the weights, byte by byte."""
    out.mkdir(parents=True, exist_ok=True)
    for name in SIDE_FILES:
        if (source / name).exists() and (source / name).resolve() != (out / name).resolve():
            shutil.copyfile(source / name, out / name)
