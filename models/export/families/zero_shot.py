"""SigLIP and MedSigLIP: one graph that scores an image against sentences."""
from __future__ import annotations

from pathlib import Path

import sentencepiece
import torch
import transformers
from tokenizers import Tokenizer, normalizers
from transformers import (PreTrainedTokenizerFast, SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipTokenizer)
from transformers.convert_slow_tokenizer import SpmConverter

from ..expected import statistics
from ..family import Family
from ..graphs import Graph
from ..tiny import SENTENCES, bare_words, choice, pictures, randomise, template, unigram_tokenizer, write_json

LABELS = [["pleural effusion", "no acute disease", "a small nodule in the left upper lobe"],
          ["an enlarged heart", "normal"], ["X-ray", "CT", "Größe 12.5 mm!", "lungs; clear"]]
TEMPLATES = ["This is a photo of {}.", "{}", "a chest X-ray that shows {}"]


class Scores(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, pixel_values):
        found = self.model(input_ids=input_ids, pixel_values=pixel_values)
        return found.logits_per_image, found.logits_per_text, found.text_embeds, found.image_embeds


class Converter(SpmConverter):
    """SentencePiece's model with what SigLIP's tokenizer does before it in Python: no capitals, no punctuation."""

    def normalizer(self, proto):
        return normalizers.Sequence([*bare_words(), super().normalizer(proto)])


class Processor:
    """Image processor and tokenizer; sentences are padded to the length that the model was trained with."""

    def __init__(self, folder):
        self.images = SiglipImageProcessor.from_pretrained(folder)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)


class Siglip(Family):
    name = "siglip"
    model_class = SiglipModel

    def processor(self, folder):
        return Processor(folder)

    def graphs(self, model) -> list[Graph]:
        vision, text = model.config.vision_config, model.config.text_config
        pixels = torch.randn(2, vision.num_channels, vision.image_size, vision.image_size, dtype=model.dtype)
        sentences = {0: "text_batch_size", 1: "sequence_length"}
        return [Graph("model", Scores(model),
                      {"input_ids": torch.ones(3, text.max_position_embeddings, dtype=torch.int64),
                       "pixel_values": pixels},
                      ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"],
                      {"input_ids": sentences, "pixel_values": {0: "image_batch_size"},
                       "logits_per_image": {0: "image_batch_size", 1: "text_batch_size"},
                       "logits_per_text": {0: "text_batch_size", 1: "image_batch_size"},
                       "text_embeds": {0: "text_batch_size"}, "image_embeds": {0: "image_batch_size"}})]

    def tokenizer_file(self, source: Path, out: Path) -> None:
        """tokenizer.json from spiece.model, which is all that most checkpoints of the class have."""
        slow = SiglipTokenizer.from_pretrained(source)
        fast = Converter(slow).converted()
        template(fast, f"$A {slow.eos_token}", [slow.eos_token])
        fast.save(str(out / "tokenizer.json"))

    def expect(self, model, processor, seed, folder, graphs):
        """expected.json of a model that scores: probabilities are the sigmoid of each score alone."""
        images, cases = pictures(seed, self.sizes), []
        for i, image in enumerate(images):
            image.save(folder / f"image{i}.png")
            for labels, sentence in zip(LABELS, TEMPLATES):
                pixels = processor.images(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]
                length = model.config.text_config.max_position_embeddings
                # The exported tokenizer has to agree with the class's own.
                exported = Tokenizer.from_file(str(folder / "tokenizer.json"))
                for label in labels:
                    text = sentence.format(label)
                    if exported.encode(text).ids != processor.tokenizer(text)["input_ids"]:
                        raise SystemExit(f"tokenizer.json splits {text!r} otherwise than the class does")
                ids = processor.tokenizer([sentence.format(label) for label in labels], padding="max_length",
                                          max_length=length, truncation=True, return_tensors="pt")["input_ids"]
                with torch.no_grad():
                    found = model(input_ids=ids, pixel_values=pixels)
                scores = found.logits_per_image[0]
                cases.append(({
                    "image": f"image{i}.png", "candidate_labels": labels, "hypothesis_template": sentence,
                    "input_ids": ids.tolist(), "logits_per_image": scores.tolist(), "probs": scores.sigmoid().tolist(),
                    "pixel_values": statistics(pixels), "image_embeds": statistics(found.image_embeds),
                }, {"input_ids": ids, "pixel_values": pixels}))
        write_json(folder / "expected.json", {"family": "siglip", "graphs": graphs, "probs": "sigmoid",
                                              "cases": [record for record, _ in cases]})
        return cases

    def with_onnxruntime(self, model, graphs, case, inputs):
        """The largest differences of the exported graph's scores and image vector."""
        from ..check import close
        found = graphs.graphs["model"](inputs)
        return {"logits": close("logits per image", found["logits_per_image"][0], case["logits_per_image"], 1e-3),
                "embeds": close("image embeds", statistics(found["image_embeds"])["strided"],
                                case["image_embeds"]["strided"], 1e-3)}

    def tiny(self, seed, folder):
        length = choice(seed, 16, 24, 12)
        if seed % 3 == 2:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter([text.lower() for text in SENTENCES if text.strip()] * 4), pad_id=0, eos_id=1,
                unk_id=2, bos_id=-1, model_prefix=str(folder / "spiece"), vocab_size=200, hard_vocab_limit=False,
                minloglevel=2)
            (folder / "spiece.vocab").unlink()
            tokens = SiglipTokenizer(str(folder / "spiece.model"), model_max_length=length)
        else:
            tokenizer = unigram_tokenizer(["<pad>", "</s>", "<unk>"], choice(seed, 160, 200))
            template(tokenizer, "$A </s>", ["</s>"])
            tokens = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>",
                                             unk_token="<unk>", model_max_length=length)
        patch, side = choice(seed, (14, 5), (16, 3), (8, 8))
        hidden, heads = choice(seed, (40, 4), (48, 6), (24, 2))
        common = dict(hidden_size=hidden, intermediate_size=72, num_attention_heads=heads)
        config = SiglipConfig(
            text_config=dict(common, num_hidden_layers=choice(seed, 2, 3, 2), vocab_size=len(tokens),
                             max_position_embeddings=length, projection_size=hidden, pad_token_id=1, eos_token_id=1,
                             bos_token_id=0),
            vision_config=dict(common, num_hidden_layers=2, image_size=patch * side, patch_size=patch))
        model = randomise(SiglipModel(config), seed)
        with torch.no_grad():
            model.logit_scale.fill_(choice(seed, 2.0, 1.5, 2.5))
            model.logit_bias.fill_(choice(seed, -1.0, 0.5, -3.0))
        model.save_pretrained(folder)
        tokens.save_pretrained(folder)
        SiglipImageProcessor(size={"height": patch * side, "width": patch * side}, resample=choice(seed, 2, 3, 2),
                             image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
