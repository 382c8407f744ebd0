"""LLaVA and LLaVA-OneVision: a vision tower, a projection, and a decoder; OneVision cuts a picture into tiles."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import (CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaOnevisionConfig,
                          LlavaOnevisionForConditionalGeneration, LlavaOnevisionImageProcessor,
                          LlavaOnevisionProcessor, LlavaProcessor, PreTrainedTokenizerFast)

from ..family import Family, decoder_graphs
from ..graphs import CausalMask, Graph
from ..tiny import byte_fallback_tokenizer, byte_level_tokenizer, choice, randomise, template, write_json
from .qwen_vl import SPLIT

LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper + ': ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' ' }}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}")
ONE_VISION_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + content['text'] }}"
    "{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


class Vision(torch.nn.Module):
    """Pictures or tiles, [batch, 3, side, side]; OneVision's vector for the end of a row is an output of its own."""

    def __init__(self, model):
        super().__init__()
        self.tower, self.projector = model.vision_tower, model.multi_modal_projector
        self.layers, self.strategy = model.config.vision_feature_layer, model.config.vision_feature_select_strategy
        self.newline = getattr(model, "image_newline", None)

    def forward(self, pixel_values):
        states = self.tower(pixel_values, output_hidden_states=True, return_dict=True).hidden_states
        layers = [self.layers] if isinstance(self.layers, int) else self.layers
        chosen = [states[layer] for layer in layers]
        chosen = torch.cat([state[:, 1:] if self.strategy == "default" else state for state in chosen], -1)
        features = self.projector(chosen)
        if self.newline is None:
            return features
        # A constant alone would lose its name as an output; so it comes once for each tile.
        return features, self.newline[None].expand(pixel_values.shape[0], -1)


class OneVisionProcessor:
    """The class's own counting of image tokens, without the video processor that it also loads (torchvision)."""

    def __init__(self, folder):
        self.images = LlavaOnevisionImageProcessor.from_pretrained(folder)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.counter = object.__new__(LlavaOnevisionProcessor)
        stated = json.loads((Path(folder) / "processor_config.json").read_text(encoding="utf-8"))
        self.counter.image_processor, self.counter.tokenizer = self.images, self.tokenizer
        self.counter.image_token = "<image>"
        for key in ("num_image_tokens", "vision_feature_select_strategy"):
            setattr(self.counter, key, stated[key])
        self.counter.vision_aspect_ratio = stated.get("vision_aspect_ratio", "anyres_max_9")

    def apply_chat_template(self, *arguments, **options):
        return self.tokenizer.apply_chat_template(*arguments, **options)

    def decode(self, *arguments, **options):
        return self.tokenizer.decode(*arguments, **options)

    def __call__(self, text, images, return_tensors, add_special_tokens, **options):
        pixels = self.images(images=images, return_tensors=return_tensors, **options)
        pieces = text.split("<image>")
        for i in range(len(pieces) - 1):
            pieces[i] += self.counter.replace_image_token(pixels, i)
        ids = self.tokenizer("".join(pieces), return_tensors=return_tensors, add_special_tokens=add_special_tokens)
        return {**ids, **pixels}


class Llava(Family):
    name = "llava"
    model_class = LlavaForConditionalGeneration
    outputs = ["image_features"]

    def graphs(self, model) -> list[Graph]:
        vision = model.config.vision_config
        pixels = torch.randn(2, 3, vision.image_size, vision.image_size, dtype=model.dtype)
        return [Graph("vision_encoder", Vision(model.model), {"pixel_values": pixels}, self.outputs,
                      {name: {0: "batch_size"} for name in ("pixel_values", *self.outputs)}),
                *decoder_graphs(model, model.model.language_model, CausalMask())]

    def tiny(self, seed, folder):
        specials = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
        tokenizer = byte_fallback_tokenizer(specials, [], choice(seed, 400, 440, 480))
        template(tokenizer, "<s> $A", ["<s>"])
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
                                       unk_token="<unk>", extra_special_tokens={"image_token": "<image>"})
        patch, side = choice(seed, (14, 4), (8, 5), (16, 3))
        heads, kv, size = choice(seed, (4, 4, 12), (6, 2, 8), (3, 1, 16))
        strategy = choice(seed, "default", "full", "default")
        config = LlavaConfig(
            image_token_id=4, image_token_index=4, tie_word_embeddings=False, vision_feature_select_strategy=strategy,
            vision_feature_layer=choice(seed, -2, -1, -3), image_seq_length=side * side + (strategy == "full"),
            vision_config=dict(model_type="clip_vision_model", hidden_size=choice(seed, 24, 32, 40),
                               intermediate_size=48, num_hidden_layers=3, num_attention_heads=choice(seed, 2, 4, 5),
                               image_size=patch * side, patch_size=patch, projection_dim=32),
            text_config=dict(model_type="llama", vocab_size=len(fast), hidden_size=heads * size, intermediate_size=72,
                             num_hidden_layers=choice(seed, 2, 3, 2), num_attention_heads=heads,
                             num_key_value_heads=kv, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
                             pad_token_id=3, tie_word_embeddings=False))
        model = randomise(LlavaForConditionalGeneration(config), seed)
        model.generation_config = transformers.GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=3)
        model.save_pretrained(folder)
        images = CLIPImageProcessor(size={"shortest_edge": patch * side}, crop_size={"height": patch * side,
                                                                                     "width": patch * side})
        LlavaProcessor(images, fast, patch_size=patch, vision_feature_select_strategy=strategy,
                       num_additional_image_tokens=1, chat_template=LLAVA_TEMPLATE).save_pretrained(folder)


class LlavaOnevision(Llava):
    name = "llava_onevision"
    model_class = LlavaOnevisionForConditionalGeneration
    outputs = ["image_features", "image_newline"]
    image_arguments = ("pixel_values", "image_sizes", "batch_num_images")
    sizes = [(97, 61), (40, 133), (64, 64), (24, 20)]

    def vision_feeds(self, inputs):
        """All tiles one after the other; several pictures have one each."""
        pixels = inputs["pixel_values"]
        if inputs["batch_num_images"][0] > 1:
            pixels = pixels[:, :1] if pixels.dim() == 5 else pixels
        return {"pixel_values": pixels.reshape(-1, *pixels.shape[-3:]).numpy()}

    def arrange(self, model, found, inputs):
        """The features of the tiles as Transformers lays them out."""
        tiles = torch.tensor(found["image_features"].astype(np.float32))
        several = len(inputs["image_sizes"]) > 1
        packed, _ = model.model.pack_image_features(
            [tile[None] for tile in tiles] if several else [tiles], inputs["image_sizes"],
            image_newline=torch.tensor(found["image_newline"][0].astype(np.float32)),
            vision_aspect_ratio=model.config.vision_aspect_ratio)
        return torch.cat(packed).numpy()

    def tiny(self, seed, folder):
        specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
        tokenizer = byte_level_tokenizer(specials, choice(seed, 420, 460, 500), SPLIT)
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                       extra_special_tokens={"image_token": "<image>", "video_token": "<video>"})
        patch, side = choice(seed, (8, 4), (10, 3), (7, 5))
        whole = patch * side
        most = choice(seed, 9, 4, 2)
        pinpoints = [[whole * rows, whole * columns] for rows in range(1, 4) for columns in range(1, 4)
                     if rows * columns > 1]
        heads, kv, size = choice(seed, (4, 2, 12), (3, 1, 16), (6, 3, 8))
        config = LlavaOnevisionConfig(
            image_token_id=3, video_token_id=4, image_token_index=3, video_token_index=4, tie_word_embeddings=False,
            vision_feature_select_strategy="full", vision_feature_layer=-1, vision_aspect_ratio=f"anyres_max_{most}",
            image_grid_pinpoints=pinpoints,
            vision_config=dict(model_type="siglip_vision_model", hidden_size=choice(seed, 24, 32, 40),
                               intermediate_size=48, num_hidden_layers=2, num_attention_heads=choice(seed, 2, 4, 5),
                               image_size=whole, patch_size=patch, vision_use_head=False),
            text_config=dict(model_type="qwen2", vocab_size=len(fast), hidden_size=heads * size, intermediate_size=72,
                             num_hidden_layers=choice(seed, 2, 3, 2), num_attention_heads=heads, num_key_value_heads=kv,
                             max_position_embeddings=2048, bos_token_id=0, eos_token_id=2, pad_token_id=0,
                             tie_word_embeddings=False))
        model = LlavaOnevisionForConditionalGeneration(config)
        torch.manual_seed(seed)
        randomise(model, seed)
        model.generation_config = transformers.GenerationConfig(bos_token_id=0, eos_token_id=[2, 0], pad_token_id=0)
        model.save_pretrained(folder)
        images = LlavaOnevisionImageProcessor(
            size={"height": whole, "width": whole}, image_grid_pinpoints=pinpoints, resample=3,
            image_mean=[0.5] * 3, image_std=[0.5] * 3)
        images.save_pretrained(folder)
        fast.chat_template = ONE_VISION_TEMPLATE
        fast.save_pretrained(folder)
        write_json(folder / "processor_config.json", {
            "processor_class": "LlavaOnevisionProcessor", "num_image_tokens": side * side, "image_token": "<image>",
            "vision_feature_select_strategy": "full", "vision_aspect_ratio": f"anyres_max_{most}"})

    def processor(self, folder):
        return OneVisionProcessor(folder)
