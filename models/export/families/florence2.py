"""Florence-2: DaViT, whose tokens come before the text in BART's encoder, and a decoder that also writes places."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import (CLIPImageProcessor, Florence2Config, Florence2ForConditionalGeneration, Florence2Processor,
                          PreTrainedTokenizerFast)

from ..family import Case, Family
from ..graphs import Graph, Seq2SeqDecoder, additive, allowed, embed_graph, seq2seq_decoder_graph
from ..tiny import added, byte_level_tokenizer, choice, randomise, template, write_json


class Vision(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.tower, self.projector = model.vision_tower, model.multi_modal_projector

    def forward(self, pixel_values):
        return self.projector(self.tower(pixel_values).last_hidden_state)


class Encoder(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, attention_mask, inputs_embeds):
        mask = additive((attention_mask != 0)[:, None, None, :], inputs_embeds.dtype)
        return self.encoder(inputs_embeds=inputs_embeds, attention_mask=mask).last_hidden_state


class Florence2(Family):
    name = "florence2"
    model_class = Florence2ForConditionalGeneration
    sizes = [(97, 61), (40, 133), (64, 64), (5, 3)]

    def processor(self, folder):
        images = CLIPImageProcessor.from_pretrained(folder)
        images.image_seq_length = self.image_tokens
        processor = Florence2Processor(images, transformers.AutoTokenizer.from_pretrained(folder))
        stated = json.loads((Path(folder) / "preprocessor_config.json").read_text(encoding="utf-8"))
        for key in ("task_prompts_without_inputs", "task_prompts_with_input"):
            setattr(processor, key, stated.get(key, getattr(processor, key)))
        return processor

    def graphs(self, model) -> list[Graph]:
        text = model.config.text_config
        bart, head, dtype = model.model.language_model, model.lm_head, model.dtype
        if bart.decoder.embed_tokens.weight is not model.get_input_embeddings().weight:
            raise SystemExit("the decoder has embeddings of its own, and `embed_tokens` is one graph for both sides")
        side = self.side
        pixels = torch.randn(2, 3, side, side, dtype=dtype)
        states = {0: "batch_size", 1: "encoder_sequence_length"}

        def run(tokens, hidden, mask, cache):
            past = cache.get_seq_length()
            every = torch.ones(tokens.shape[0], past + tokens.shape[1], dtype=torch.int64)
            found = bart.decoder(
                inputs_embeds=tokens, encoder_hidden_states=hidden, past_key_values=cache, use_cache=True,
                attention_mask=additive(allowed(every, tokens.shape[1]), tokens.dtype),
                encoder_attention_mask=additive((mask != 0)[:, None, None, :], tokens.dtype))
            return head(found.last_hidden_state)

        decoder = Seq2SeqDecoder(run, [bart.decoder, head], has_mask=True)
        return [
            # The tower cuts windows by the size at the time of tracing; its processor makes only that size.
            Graph("vision_encoder", Vision(model.model), {"pixel_values": pixels}, ["image_features"],
                  {"pixel_values": {0: "batch_size"}, "image_features": {0: "batch_size"}}),
            embed_graph(model.get_input_embeddings()),
            Graph("encoder_model", Encoder(bart.encoder),
                  {"attention_mask": torch.ones(2, 6, dtype=torch.int64),
                   "inputs_embeds": torch.randn(2, 6, text.d_model, dtype=dtype)},
                  ["last_hidden_state"], {"attention_mask": states, "inputs_embeds": states,
                                          "last_hidden_state": states}),
            seq2seq_decoder_graph(decoder, {"inputs_embeds": torch.randn(2, 3, text.d_model, dtype=dtype)},
                                  text.decoder_layers, text.decoder_attention_heads,
                                  text.d_model // text.decoder_attention_heads, text.d_model)]

    def load(self, folder, dtype=torch.float32):
        size = CLIPImageProcessor.from_pretrained(folder).size
        self.side = size["height"] if "height" in size else size["shortest_edge"]
        model = super().load(folder, dtype)
        with torch.no_grad():
            blank = torch.zeros(1, 3, self.side, self.side, dtype=dtype)
            self.image_tokens = model.get_image_features(blank).pooler_output.shape[1]
        return model

    def cases(self, seed):
        plain = {"max_new_tokens": 12, "num_beams": 1, "no_repeat_ngram_size": 0}
        beam = {"max_new_tokens": 10, "num_beams": 3, "no_repeat_ngram_size": 3, "early_stopping": True}
        return [
            Case([0], "<CAPTION>", plain),
            Case([1], "<MORE_DETAILED_CAPTION>", plain),
            Case([2], "<OD>", plain),
            Case([3], "<CAPTION_TO_PHRASE_GROUNDING>a small effusion on the right", plain),
            Case([0], "<OD>", {**plain, "no_repeat_ngram_size": 3}, "ngram3"),
            Case([1], "<CAPTION>", {**plain, "repetition_penalty": 1.3}, "rep1.3"),
            Case([0], "<CAPTION>", beam, "beam3"),
            Case([2], "<MORE_DETAILED_CAPTION>", beam, "beam3"),
        ]

    def encode(self, processor, case, images):
        prompt = processor._construct_prompts(case.text)[0]
        pixels = processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
        ids = processor.tokenizer(prompt, return_tensors="pt")["input_ids"]
        before = torch.full((1, self.image_tokens), processor.image_token_id)
        ids = torch.cat([before, ids], 1)
        inputs = {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return inputs, {"task": case.text, "prompt": prompt}

    def features(self, model, inputs):
        return model.get_image_features(inputs["pixel_values"]).pooler_output

    def extra(self, model, inputs, case):
        """The features stand before the text, so that `input_ids` is the text alone."""
        return {"input_ids": inputs["input_ids"][0, self.image_tokens:].tolist(), "image_tokens": self.image_tokens,
                "decoder_start_token_id": model.generation_config.decoder_start_token_id}

    def encode_onnx(self, model, graphs, inputs):
        """Encoder states of the exported graphs, and the features of the picture."""
        features = next(iter(graphs.graphs["vision_encoder"]({"pixel_values": inputs["pixel_values"]}).values()))
        text = graphs.graphs["embed_tokens"](
            {"input_ids": inputs["input_ids"][:, self.image_tokens:]})["inputs_embeds"]
        embeds = np.concatenate([features.astype(text.dtype), text], 1)
        states = graphs.graphs["encoder_model"]({"inputs_embeds": embeds, "attention_mask": np.ones(embeds.shape[:2])})
        return states["last_hidden_state"], features

    def tiny(self, seed, folder):
        specials = ["<s>", "<pad>", "</s>", "<unk>"]
        tokenizer = byte_level_tokenizer(specials, choice(seed, 400, 440, 480))
        places = [added(f"<loc_{i}>", special=False) for i in range(1000)]
        tokenizer.add_tokens(places)
        tokenizer.add_special_tokens([added("<image>")])
        template(tokenizer, "<s> $A </s>", ["<s>", "</s>"])
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
                                       unk_token="<unk>", extra_special_tokens={"image_token": "<image>"})
        # Four stages halve the side, the first by its stride of 4.
        side, hidden = choice(seed, 96, 64, 128), choice(seed, 40, 48, 64)
        dims = choice(seed, [16, 24, 32, 40], [12, 24, 36, 48], [8, 16, 24, 32])
        vision = dict(embed_dim=dims, depths=choice(seed, [1, 1, 1, 1], [1, 2, 1, 1], [1, 1, 2, 1]),
                      num_heads=choice(seed, [2, 2, 4, 4], [2, 3, 3, 4], [1, 2, 3, 4]),
                      num_groups=choice(seed, [2, 2, 4, 4], [2, 3, 3, 4], [1, 2, 3, 4]),
                      window_size=choice(seed, 4, 3, 5), projection_dim=hidden, mlp_ratio=2.0,
                      max_temporal_embeddings=8, max_position_embeddings=16)
        text = dict(model_type="bart", vocab_size=len(fast), d_model=hidden, encoder_layers=choice(seed, 2, 1, 2),
                    decoder_layers=choice(seed, 2, 3, 1), encoder_attention_heads=choice(seed, 4, 3, 8),
                    decoder_attention_heads=choice(seed, 5, 4, 2), encoder_ffn_dim=64, decoder_ffn_dim=56,
                    max_position_embeddings=256, bos_token_id=0, pad_token_id=1, eos_token_id=2,
                    decoder_start_token_id=2, forced_eos_token_id=2, forced_bos_token_id=0, tie_word_embeddings=True)
        config = Florence2Config(vision_config=vision, text_config=text, image_token_id=fast.image_token_id,
                                 is_encoder_decoder=True, tie_word_embeddings=False)
        model = randomise(Florence2ForConditionalGeneration(config), seed)
        model.generation_config = transformers.GenerationConfig(
            bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_bos_token_id=0,
            forced_eos_token_id=2, num_beams=3, no_repeat_ngram_size=3, early_stopping=True)
        model.save_pretrained(folder)
        fast.save_pretrained(folder)
        tasks = {}
        if seed % 3 == 1:
            # Older folders state the sentences of the tasks; where none are stated, those of the class hold.
            tasks = {"task_prompts_without_inputs": {"<CAPTION>": "Describe the image.", "<OD>": "Locate the findings.",
                                                     "<MORE_DETAILED_CAPTION>": "Describe the image at length."},
                     "task_prompts_with_input": {"<CAPTION_TO_PHRASE_GROUNDING>": "Locate in the image: {input}"}}
        write_json(folder / "preprocessor_config.json", {
            "image_processor_type": "CLIPImageProcessor", "do_resize": True, "do_center_crop": False,
            "size": {"height": side, "width": side}, "crop_size": {"height": side, "width": side}, "resample": 3,
            "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True,
            "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
            "processor_class": "Florence2Processor", **tasks})
