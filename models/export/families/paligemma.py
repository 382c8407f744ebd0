"""PaliGemma and PaliGemma 2: SigLIP, one projection, and Gemma with a prefix that sees all of itself."""
from __future__ import annotations

import torch
import transformers
from transformers import (PaliGemmaConfig, PaliGemmaForConditionalGeneration, PaliGemmaProcessor,
                          PreTrainedTokenizerFast, SiglipImageProcessor)

from ..family import Case, Family, decoder_graphs
from ..graphs import Graph, additive, allowed
from ..tiny import added, byte_fallback_tokenizer, choice, randomise, template
from .gemma3 import Vision


class Masks(torch.nn.Module):
    """The prompt (what is run without a past) sees all of itself, windows or not; what follows sees what was before."""

    def __init__(self, window: int | None):
        super().__init__()
        self.window = window

    def forward(self, inputs_embeds, attention_mask):
        queries = inputs_embeds.shape[1]
        keys = attention_mask.shape[1]
        prefix = (torch.ones(1, 1, 1, dtype=torch.int64) * (keys - queries)) == 0
        dtype = inputs_embeds.dtype
        full = additive(allowed(attention_mask, queries, blocks=prefix), dtype)
        if self.window is None:
            return full
        return {"full_attention": full,
                "sliding_attention": additive(allowed(attention_mask, queries, self.window, blocks=prefix), dtype)}


class PaliGemma(Family):
    name = "paligemma"
    model_class = PaliGemmaForConditionalGeneration

    def graphs(self, model) -> list[Graph]:
        vision, text = model.config.vision_config, model.config.text_config
        pixels = torch.randn(2, vision.num_channels, vision.image_size, vision.image_size, dtype=model.dtype)
        return [Graph("vision_encoder", Vision(model.model), {"pixel_values": pixels}, ["image_features"],
                      {"pixel_values": {0: "batch_size"}, "image_features": {0: "batch_size"}}),
                *decoder_graphs(model, model.model.language_model, Masks(getattr(text, "sliding_window", None)),
                                getattr(text, "final_logit_softcapping", None))]

    def messages(self, case: Case) -> None:
        return None

    def encode(self, processor, case, images):
        text = "<image>" * len(images) + case.text
        inputs = processor(text=text, images=images if len(images) == 1 else [images], return_tensors="pt")
        return dict(inputs), {"text_prompt": case.text}

    def positions(self, model, inputs):
        return super().positions(model, inputs) + 1

    def cases(self, seed):
        beam = {"max_new_tokens": 10, "num_beams": 4, "length_penalty": 1.0, "early_stopping": True}
        return [
            Case([0], "caption en"),
            Case([1], "detect nodule ; effusion"),
            Case([2], "answer en is there a fracture? Größe 12,5 mm"),
            Case([3], "describe de"),
            Case([1], "answer en where is the tube ?", {"max_new_tokens": 12, "repetition_penalty": 1.3}, "rep1.3"),
            Case([0], "caption fr", {"max_new_tokens": 14, "no_repeat_ngram_size": 2}, "ngram2"),
            Case([2], "caption en", beam, "beam4"),
            Case([0, 1], "answer en what has changed?", mode="two_images"),
        ]

    def tiny(self, seed, folder):
        specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>"]
        places = [f"<loc{i:04d}>" for i in range(1024)] + [f"<seg{i:03d}>" for i in range(128)]
        tokenizer = byte_fallback_tokenizer(specials, ["\n\n"], choice(seed, 440, 480, 520))
        # The processor adds these itself, and takes bos as its own business.
        tokenizer.add_tokens([added(text, special=False) for text in places])
        template(tokenizer, "<bos> $A", ["<bos>"])
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>",
                                       pad_token="<pad>", unk_token="<unk>",
                                       extra_special_tokens={"image_token": "<image>"})
        patch, side = choice(seed, 14, 10, 16), choice(seed, 6, 5, 3)
        heads, kv, size = choice(seed, (4, 1, 16), (6, 2, 8), (2, 2, 24))
        second = choice(seed, True, True, False)
        hidden = choice(seed, 64, 48, 40)
        text = dict(model_type="gemma2" if second else "gemma", vocab_size=len(fast), hidden_size=hidden,
                    intermediate_size=80, num_hidden_layers=choice(seed, 4, 3, 2), num_attention_heads=heads,
                    num_key_value_heads=kv, head_dim=size, max_position_embeddings=512, pad_token_id=0, eos_token_id=1,
                    bos_token_id=2, tie_word_embeddings=False)
        if second:
            text |= dict(query_pre_attn_scalar=choice(seed, 16, 20), sliding_window=choice(seed, 20, 9),
                         attn_logit_softcapping=50.0, final_logit_softcapping=30.0)
        config = PaliGemmaConfig(
            image_token_id=4, image_token_index=4, projection_dim=hidden, tie_word_embeddings=False, text_config=text,
            vision_config=dict(model_type="siglip_vision_model", hidden_size=choice(seed, 24, 32, 40),
                               intermediate_size=48, num_hidden_layers=2, num_attention_heads=choice(seed, 2, 4, 5),
                               image_size=patch * side, patch_size=patch, vision_use_head=False, projection_dim=hidden))
        model = randomise(PaliGemmaForConditionalGeneration(config), seed)
        model.generation_config = transformers.GenerationConfig(bos_token_id=2, eos_token_id=1, pad_token_id=0)
        model.save_pretrained(folder)
        images = SiglipImageProcessor(size={"height": patch * side, "width": patch * side}, resample=3,
                                      image_mean=[0.5] * 3, image_std=[0.5] * 3, do_convert_rgb=True)
        images.image_seq_length = side * side
        PaliGemmaProcessor(images, fast).save_pretrained(folder)
