"""VisionEncoderDecoder: a vision transformer and GPT-2 or BERT, as chest report generators are published."""
from __future__ import annotations

import inspect

import torch
import transformers
from transformers import (BertConfig, GPT2Config, PreTrainedTokenizerFast, SwinConfig, ViTConfig, ViTImageProcessor,
                          VisionEncoderDecoderConfig, VisionEncoderDecoderModel)

from ..family import Case, Family
from ..graphs import Graph, Seq2SeqDecoder, additive, allowed, seq2seq_decoder_graph
from ..tiny import byte_level_tokenizer, choice, randomise, word_piece_tokenizer

# Decoders that take a mask of four dimensions and a cache of both sides.
DECODERS = ("gpt2", "bert", "bert-generation", "roberta", "xlm-roberta")


class Encoder(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixel_values):
        return self.encoder(pixel_values=pixel_values, return_dict=True).last_hidden_state


class Processor:
    """Image processor and tokenizer beside each other; the class has no processor of its own."""

    def __init__(self, folder):
        self.images = transformers.AutoImageProcessor.from_pretrained(folder)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def decode(self, *arguments, **options):
        return self.tokenizer.decode(*arguments, **options)


class VisionEncoderDecoder(Family):
    name = "vision_encoder_decoder"
    model_class = VisionEncoderDecoderModel

    def processor(self, folder):
        return Processor(folder)

    def graphs(self, model) -> list[Graph]:
        encoder, decoder = model.encoder.config, model.decoder
        if decoder.config.model_type not in DECODERS:
            raise SystemExit(f"decoders of type {decoder.config.model_type} are not exported here, only {DECODERS}; "
                             "optimum's `vision2seq` export knows TrOCR and mBART")
        side = encoder.image_size
        height, width = (side, side) if isinstance(side, int) else side
        pixels = torch.randn(2, encoder.num_channels, height, width, dtype=model.dtype)
        project = getattr(model, "enc_to_dec_proj", None)
        # RoBERTa counts positions from its padding token on, which it does best itself.
        takes_positions = ("position_ids" in inspect.signature(decoder.forward).parameters
                           and "roberta" not in decoder.config.model_type)

        def run(tokens, hidden, mask, cache):
            past, length = cache.get_seq_length(), tokens.shape[1]
            every = torch.ones(tokens.shape[0], past + length, dtype=torch.int64)
            options = {"position_ids": (torch.arange(length) + past)[None]} if takes_positions else {}
            return decoder(
                input_ids=tokens, encoder_hidden_states=project(hidden) if project is not None else hidden,
                attention_mask=additive(allowed(every, length), hidden.dtype), past_key_values=cache, use_cache=True,
                **options).logits

        parts = [decoder, *([project] if project is not None else [])]
        config = decoder.config
        return [
            Graph("encoder_model", Encoder(model.encoder), {"pixel_values": pixels}, ["last_hidden_state"],
                  {"pixel_values": {0: "batch_size"}, "last_hidden_state": {0: "batch_size"}}),
            seq2seq_decoder_graph(Seq2SeqDecoder(run, parts, has_mask=False),
                                  {"input_ids": torch.zeros(2, 3, dtype=torch.int64)}, config.num_hidden_layers,
                                  config.num_attention_heads, config.hidden_size // config.num_attention_heads,
                                  encoder.hidden_size)]

    def cases(self, seed):
        plain, beam = {"max_length": 18, "num_beams": 1}, {"max_length": 16, "num_beams": 4, "early_stopping": True}
        processed = {**plain, "repetition_penalty": 1.3, "no_repeat_ngram_size": 3}
        return [case for i in range(4) for case in (
            Case([i], gen=plain), Case([i], gen=processed, mode="rep_ngram"), Case([i], gen=beam, mode="beam4"))]

    def encode(self, processor, case, images):
        return {"pixel_values": processor.images(images=images, return_tensors="pt")["pixel_values"]}, {"prompt": None}

    def features(self, model, inputs):
        return None

    def extra(self, model, inputs, case):
        return {"decoder_start_token_id": model.generation_config.decoder_start_token_id}

    def encode_onnx(self, model, graphs, inputs):
        """Encoder states of the exported graph; there are no features to compare."""
        return graphs.graphs["encoder_model"]({"pixel_values": inputs["pixel_values"]})["last_hidden_state"], None

    def tiny(self, seed, folder):
        if seed % 3 == 2:
            tokenizer = word_piece_tokenizer(300)
            names = dict(bos_token="[CLS]", eos_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                         sep_token="[SEP]")
        else:
            tokenizer = byte_level_tokenizer(["<|endoftext|>"], choice(seed, 380, 420))
            names = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<|endoftext|>")
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
        ids = dict(bos_token_id=fast.bos_token_id, eos_token_id=fast.eos_token_id, pad_token_id=fast.pad_token_id)
        hidden, heads = choice(seed, (40, 4), (48, 3), (72, 6))
        if seed % 3 == 1:
            side, encoder = 64, SwinConfig(image_size=64, patch_size=4, embed_dim=16, depths=[1, 2], num_heads=[2, 4],
                                           window_size=4)
        else:
            side = choice(seed, 60, 0, 84)
            encoder = ViTConfig(hidden_size=choice(seed, 40, 0, 32), num_hidden_layers=3, intermediate_size=64,
                                num_attention_heads=4, image_size=side, patch_size=12)
        common = dict(vocab_size=len(fast), add_cross_attention=True, is_decoder=True, tie_word_embeddings=False, **ids)
        if seed % 3 == 2:
            decoder = BertConfig(hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=3,
                                 intermediate_size=80, max_position_embeddings=64, **common)
        else:
            decoder = GPT2Config(n_embd=hidden, n_head=heads, n_layer=choice(seed, 3, 2), n_positions=96, **common)
        config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
        config.decoder_start_token_id, config.tie_word_embeddings = fast.bos_token_id, False
        config.pad_token_id, config.eos_token_id = fast.pad_token_id, fast.eos_token_id
        model = randomise(VisionEncoderDecoderModel(config), seed)
        model.generation_config = transformers.GenerationConfig(
            **ids, decoder_start_token_id=fast.bos_token_id, max_length=24, num_beams=choice(seed, 4, 1, 3))
        model.save_pretrained(folder)
        fast.save_pretrained(folder)
        ViTImageProcessor(size={"height": side, "width": side}, resample=choice(seed, 2, 3, 2),
                          image_mean=choice(seed, [0.5] * 3, [0.485, 0.456, 0.406]),
                          image_std=choice(seed, [0.5] * 3, [0.229, 0.224, 0.225])).save_pretrained(folder)
