"""Idefics3 and SmolVLM (the 256M and 500M models are of class Idefics3, those of version 2 of class SmolVLM)."""
from __future__ import annotations

import torch
import transformers
from transformers import Idefics3ImageProcessor, Idefics3Processor, PreTrainedTokenizerFast

from ..family import Case, Family, decoder_graphs
from ..graphs import CausalMask, Graph
from ..tiny import byte_level_tokenizer, choice, randomise

TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}")


class Vision(torch.nn.Module):
    """All tiles of all pictures, [batch, tiles, 3, side, side]; each tile is full, as the processor cuts them."""

    def __init__(self, model):
        super().__init__()
        self.vision, self.connector = model.vision_model, model.connector
        size = model.config.vision_config.image_size
        side = size // model.config.vision_config.patch_size
        embeddings, dtype = self.vision.embeddings, next(self.vision.parameters()).dtype
        blank = torch.zeros(1, model.config.vision_config.num_channels, size, size, dtype=dtype)
        with torch.no_grad():
            full = embeddings(blank, patch_attention_mask=torch.ones(1, side, side, dtype=torch.bool))
            patches = embeddings.patch_embedding(blank).flatten(2).transpose(1, 2)
        self.register_buffer("positions", full - patches)

    def forward(self, pixel_values, pixel_attention_mask):
        patches = self.vision.embeddings.patch_embedding(pixel_values.flatten(0, 1)).flatten(2).transpose(1, 2)
        hidden = self.vision.encoder(inputs_embeds=patches + self.positions, attention_mask=None).last_hidden_state
        return self.connector(self.vision.post_layernorm(hidden))


class Idefics3(Family):
    name = "idefics3"
    model_class = transformers.Idefics3ForConditionalGeneration
    config_class = transformers.Idefics3Config
    image_arguments = ("pixel_values", "pixel_attention_mask")
    sizes = [(97, 61), (40, 133), (64, 64), (24, 20)]

    def graphs(self, model) -> list[Graph]:
        size = model.config.vision_config.image_size
        pixels = torch.randn(2, 3, 3, size, size, dtype=model.dtype)
        tiles = {0: "batch_size", 1: "num_images"}
        return [Graph("vision_encoder", Vision(model.model),
                      {"pixel_values": pixels, "pixel_attention_mask": torch.ones(2, 3, size, size, dtype=torch.bool)},
                      ["image_features"], {"pixel_values": tiles, "pixel_attention_mask": tiles,
                                           "image_features": {0: "num_tiles"}}),
                *decoder_graphs(model, model.model.text_model, CausalMask())]

    def cases(self, seed):
        return [*super().cases(seed), Case([1], "Any nodule?", processor={"do_image_splitting": False}),
                Case([0, 1], "Which is larger?", processor={"do_image_splitting": False}, mode="two_images")]

    def tiny(self, seed, folder):
        specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<end_of_utterance>", "<fake_token_around_image>",
                    "<image>", "<global-img>"] + [f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)]
        tokenizer = byte_level_tokenizer(specials, choice(seed, 460, 500, 540))
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|im_start|>",
                                       eos_token="<end_of_utterance>", pad_token="<|im_end|>",
                                       unk_token="<|endoftext|>")
        heads, kv, size = choice(seed, (4, 2, 12), (3, 1, 16), (6, 3, 8))
        patch, side, scale = choice(seed, (8, 4, 2), (7, 6, 3), (10, 4, 4))
        tile = patch * side
        text = dict(model_type="llama", vocab_size=len(fast), hidden_size=heads * size, intermediate_size=72,
                    num_hidden_layers=choice(seed, 2, 3, 2), num_attention_heads=heads, num_key_value_heads=kv,
                    max_position_embeddings=2048, pad_token_id=2, bos_token_id=1, eos_token_id=3,
                    rope_parameters={"rope_type": "default", "rope_theta": choice(seed, 1e5, 1e4, 273768.0)},
                    tie_word_embeddings=False)
        vision = dict(hidden_size=choice(seed, 24, 32, 40), intermediate_size=48, num_hidden_layers=2,
                      num_attention_heads=choice(seed, 2, 4, 5), image_size=tile, patch_size=patch)
        config = self.config_class(image_token_id=5, scale_factor=scale, tie_word_embeddings=False, pad_token_id=2,
                                   text_config=text, vision_config=vision)
        model = randomise(self.model_class(config), seed)
        model.generation_config = transformers.GenerationConfig(bos_token_id=1, eos_token_id=[3, 2], pad_token_id=2)
        model.save_pretrained(folder)
        images = Idefics3ImageProcessor(
            size={"longest_edge": tile * choice(seed, 4, 3, 2)}, max_image_size={"longest_edge": tile}, resample=1,
            image_mean=[0.5] * 3, image_std=[0.5] * 3, do_image_splitting=True)
        processor = Idefics3Processor(images, fast, image_seq_len=(side // scale) ** 2, chat_template=TEMPLATE)
        processor.save_pretrained(folder)


class SmolVLM(Idefics3):
    name = "smolvlm"
    model_class = transformers.SmolVLMForConditionalGeneration
    config_class = transformers.SmolVLMConfig

    def processor(self, folder):
        # The class's own processor makes the same prompt and also needs torchvision for video.
        return Idefics3Processor.from_pretrained(folder)
