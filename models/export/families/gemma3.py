"""Gemma 3 and MedGemma 4B: SigLIP, pooled to 256 tokens per image, and a decoder with windows and global layers."""
from __future__ import annotations

import torch
import transformers
from transformers import (Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor,
                          PreTrainedTokenizerFast)

from ..family import Family, decoder_graphs
from ..graphs import Graph, additive, allowed
from ..tiny import byte_fallback_tokenizer, choice, randomise, template

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' "
    "else message['role']) + '\n' }}{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}"
    "{% for item in message['content'] %}{% if item['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% elif item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}")


class Vision(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.tower, self.projector = model.vision_tower, model.multi_modal_projector

    def forward(self, pixel_values):
        return self.projector(self.tower(pixel_values=pixel_values, return_dict=True).last_hidden_state)


class Masks(torch.nn.Module):
    """Causal masks in which the tokens of an image see each other, whichever comes first, as Transformers has it.

    The decoder's graph has no input that says which positions are an image's. It finds them: those between the vectors
    of the tokens that begin and end an image. A prompt must not be cut within an image when it is run in parts.
    """

    def __init__(self, embed, begin: int, end: int, length: int, window: int):
        super().__init__()
        with torch.no_grad():
            vectors = embed(torch.tensor([begin, end])).detach().clone()
        self.register_buffer("marks", vectors)
        # Vectors of a graph with other rounding (float16) are the same within this.
        self.tolerance = float((vectors[0] - vectors[1]).abs().max()) / 100
        self.length, self.window = length, window

    def forward(self, inputs_embeds, attention_mask):
        queries = inputs_embeds.shape[1]
        begins = (inputs_embeds - self.marks[0]).abs().amax(-1) < self.tolerance
        ends = (inputs_embeds - self.marks[1]).abs().amax(-1) < self.tolerance
        begun, ended = begins.long().cumsum(1), ends.long().cumsum(1)
        image = torch.where((begun > ended) & ~begins, begun, torch.zeros_like(begun))
        same = (image[:, :, None] == image[:, None, :]) & (image[:, :, None] > 0)
        past = attention_mask.shape[1] - queries
        also = torch.cat([torch.zeros(1, 1, 1, dtype=torch.bool).expand(same.shape[0], queries, past), same], -1)
        dtype = inputs_embeds.dtype
        return {"full_attention": additive(allowed(attention_mask, queries, also=also), dtype),
                "sliding_attention": additive(allowed(attention_mask, queries, self.window, also), dtype)}


class Gemma3(Family):
    name = "gemma3"
    model_class = Gemma3ForConditionalGeneration

    def graphs(self, model) -> list[Graph]:
        vision, text = model.config.vision_config, model.config.text_config
        dtype = model.dtype
        pixels = torch.randn(2, vision.num_channels, vision.image_size, vision.image_size, dtype=dtype)
        masks = Masks(model.get_input_embeddings(), model.config.boi_token_id, model.config.eoi_token_id,
                      model.config.mm_tokens_per_image, text.sliding_window)
        return [Graph("vision_encoder", Vision(model.model), {"pixel_values": pixels}, ["image_features"],
                      {"pixel_values": {0: "batch_size"}, "image_features": {0: "batch_size"}}),
                *decoder_graphs(model, model.model.language_model, masks, text.final_logit_softcapping)]

    def tiny(self, seed, folder):
        specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>",
                    "<end_of_image>", "<image_soft_token>"]
        tokenizer = byte_fallback_tokenizer(specials, ["\n\n", "\n\n\n", "\n\n\n\n"], 430 + 30 * choice(seed, 0, 1, 2))
        template(tokenizer, "<bos> $A", ["<bos>"])
        ids = {text: tokenizer.token_to_id(text) for text in specials}
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>",
            extra_special_tokens={"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>",
                                  "image_token": "<image_soft_token>"})
        patch, side = choice(seed, 14, 8, 16), choice(seed, 8, 12, 4)
        tokens = choice(seed, 16, 9, 4)
        heads, kv, size = choice(seed, (4, 2, 12), (6, 2, 8), (3, 1, 20))
        config = Gemma3Config(
            boi_token_id=ids["<start_of_image>"], eoi_token_id=ids["<end_of_image>"],
            image_token_id=ids["<image_soft_token>"], mm_tokens_per_image=tokens, tie_word_embeddings=False,
            boi_token_index=ids["<start_of_image>"], eoi_token_index=ids["<end_of_image>"],
            image_token_index=ids["<image_soft_token>"],
            text_config=dict(
                vocab_size=tokenizer.get_vocab_size(), hidden_size=choice(seed, 40, 54, 72), intermediate_size=88,
                num_hidden_layers=choice(seed, 3, 2, 4), num_attention_heads=heads, num_key_value_heads=kv,
                head_dim=size, query_pre_attn_scalar=choice(seed, size, 16, 24), sliding_window=choice(seed, 12, 7, 20),
                layer_types=choice(seed, ["sliding_attention", "full_attention", "sliding_attention"],
                                   ["full_attention", "sliding_attention"],
                                   ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]),
                rope_parameters={"full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
                                 "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"}},
                max_position_embeddings=512, pad_token_id=0, eos_token_id=1, bos_token_id=2,
                tie_word_embeddings=False),
            vision_config=dict(hidden_size=choice(seed, 24, 32, 40), intermediate_size=48, num_hidden_layers=2,
                               num_attention_heads=choice(seed, 2, 4, 5), image_size=patch * side, patch_size=patch,
                               vision_use_head=False))
        model = randomise(Gemma3ForConditionalGeneration(config), seed)
        model.generation_config = transformers.GenerationConfig(
            bos_token_id=2, eos_token_id=[1, ids["<end_of_turn>"]], pad_token_id=0)
        model.save_pretrained(folder)
        images = Gemma3ImageProcessor(size={"height": patch * side, "width": patch * side}, resample=2,
                                      image_mean=[0.5] * 3, image_std=[0.5] * 3, do_convert_rgb=True)
        Gemma3Processor(images, fast, chat_template=TEMPLATE, image_seq_length=tokens).save_pretrained(folder)
