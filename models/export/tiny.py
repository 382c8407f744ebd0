"""Random models of a family's class, small enough for a check: tokenizers, weights and pictures from a seed."""
from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SENTENCES = [
    "The heart is enlarged. There is a small pleural effusion on the right.",
    "No pneumothorax, no acute disease; the lungs are clear and the mediastinum is normal in width.",
    "Describe this X-ray. Is there a nodule in the left upper lobe? Findings and impression:",
    "Compare the second image with the first one and say what has changed since then.",
    "What does the image describe? What are the regions? Locate the objects with category name in the image.",
    "Ödem beidseits, Größe 12,5 mm; épanchement pleural gauche; 胸部X線で異常なし。 37 °C ½",
    "caption en detect answer describe system user assistant model User Assistant You are a helpful assistant",
    "\n\n\n\n", "0 1 2 3 4 5 6 7 8 9 10 24 37 100 2026",
]


def added(text: str, special: bool = True) -> AddedToken:
    return AddedToken(text, special=special, normalized=False)


def byte_level_tokenizer(specials: list[str], size: int, split: str | None = None) -> Tokenizer:
    """Byte-level pairs as GPT-2 has them; `split` is the expression of Qwen's kind that cuts before it."""
    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    tokenizer.pre_tokenizer = level if split is None else pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(split), "isolated"), level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[added(text) for text in specials],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def byte_fallback_tokenizer(specials: list[str], plain: list[str], size: int) -> Tokenizer:
    """Pairs over text whose spaces are `▁`, with a token for each byte, as Gemma has them.

    `specials` come first; `plain` are added tokens that are ordinary text, such as runs of line ends.
    """
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    rest = size - len(specials) - len(plain) - len(bytes_)
    trained.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=rest, show_progress=False))
    state = json.loads(trained.to_str())["model"]
    pieces = sorted(state["vocab"], key=state["vocab"].get)
    vocabulary = {text: i for i, text in enumerate([*specials, *plain, *bytes_, *pieces])}
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in state["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, fuse_unk=True,
                                     unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([added(text) for text in specials])
    tokenizer.add_tokens([added(text, special=False) for text in plain])
    return tokenizer


def bare_words() -> list:
    """Lower case, without ASCII punctuation, one space between words."""
    return [normalizers.Lowercase(), normalizers.Replace(Regex(r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"), ""),
            normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]


def unigram_tokenizer(specials: list[str], size: int) -> Tokenizer:
    """A unigram model over lower-case text without punctuation, as SigLIP's is."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(bare_words())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(SENTENCES * 4, trainers.UnigramTrainer(
        vocab_size=size, special_tokens=[added(text) for text in specials], unk_token="<unk>", show_progress=False))
    return tokenizer


def word_piece_tokenizer(size: int) -> Tokenizer:
    """BERT's pieces of lower-case words."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(SENTENCES, trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[added(text) for text in specials], show_progress=False))
    template(tokenizer, "[CLS] $A [SEP]", ["[CLS]", "[SEP]"])
    return tokenizer


def template(tokenizer: Tokenizer, single: str, specials: list[str]) -> None:
    """Sets what the tokenizer puts around a text, such as `<s> $A </s>`."""
    pair = single.replace("$A", "$A $B:1")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(text, tokenizer.token_to_id(text)) for text in specials])


def randomise(model: torch.nn.Module, seed: int, gain: float = 1.2) -> torch.nn.Module:
    """Gives every weight a size at which the output depends on the input and does not repeat itself."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            if weight.dim() > 1:
                inputs = weight.shape[1] if "embed" in name and weight.dim() == 2 else weight[0].numel()
                weight.copy_(noise * gain / inputs ** 0.5)
            elif "norm" in name or "ln_" in name or "layernorm" in name:
                # Gemma's norms hold the difference from one.
                weight.copy_((0 if float(weight.abs().max()) == 0 else 1) + 0.1 * noise)
            else:
                weight.copy_(weight + 0.05 * noise)
    return model.eval()


def pictures(seed: int, sizes: list[tuple[int, int]]) -> list[Image.Image]:
    """Drawn pictures of the given (width, height): shades, discs and noise. The third of four is grey."""
    draw, found = np.random.default_rng(seed), []
    for i, (width, height) in enumerate(sizes):
        y, x = np.mgrid[0:height, 0:width]
        picture = 90 + 80 * np.stack([np.sin(x / draw.uniform(5, 30) + phase) * np.cos(y / draw.uniform(5, 30))
                                      for phase in draw.uniform(0, 6, 3)], -1)
        for _ in range(3):
            centre, radius = draw.uniform(0, 1, 2) * (width, height), draw.uniform(.1, .3) * min(width, height)
            picture[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius ** 2] = draw.uniform(0, 255, 3)
        picture = np.clip(picture + draw.normal(0, 12, picture.shape), 0, 255).astype(np.uint8)
        found.append(Image.fromarray(picture[..., 0]) if i % 4 == 2 else Image.fromarray(picture))
    return found


def write_json(path: Path, value) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def choice(seed: int, *among):
    """One of `among`; neighbouring seeds get neighbouring ones."""
    return among[seed % len(among)]


def shuffled(seed: int, items: list) -> list:
    return random.Random(seed).sample(items, len(items))
