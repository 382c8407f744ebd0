"""A small encoder and a small decoder with cross-attention; every tensor the exported graphs need is a plain output."""
from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

WORDS = ("Small Moderate Large Left Right Consolidation The Endotracheal No nodule in the left right upper mid lower zone "
         "pleural effusion pneumothorax heart is enlarged tube place central venous line pacemaker abnormality").split()
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
PAD, BOS, EOS, UNK = range(4)
# The word-start mark U+2581 stands for the space before a word (Metaspace); a full stop sticks to its word.
VOCAB = SPECIAL + ["."] + ["\u2581" + w for w in WORDS]
TOKEN = {t: i for i, t in enumerate(VOCAB)}
MAX_LENGTH = 64
GRID = 16


def encode_sentence(s: str) -> list[int]:
    out = []
    for w in s.split():
        out.append(TOKEN["\u2581" + w.rstrip(".")])
        if w.endswith("."):
            out.append(TOKEN["."])
    return out


def decode(ids) -> str:
    return "".join(VOCAB[i] for i in ids if i > UNK).replace("\u2581", " ").strip()


def conv(i, o, k=3, s=1):
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o))


class Block(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.a, self.b = conv(i, o, 3, stride), conv(o, o)
        self.skip = None if i == o and stride == 1 else conv(i, o, 1 if stride == 1 else 2, stride)
        if self.skip is not None and stride == 2:
            self.skip[0].padding = (0, 0)
        nn.init.zeros_(self.b[1].weight)

    def forward(self, x):
        y = self.b(F.relu(self.a(x)))
        return F.relu(y + (x if self.skip is None else self.skip(x)))


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.h, self.dk = heads, dim // heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))

    def split(self, x):
        return x.reshape(x.shape[0], -1, self.h, self.dk).transpose(1, 2)

    def forward(self, x, kv=None, past=None, mask=None):
        kv = x if kv is None else kv
        q, k, v = self.split(self.q(x)), self.split(self.k(kv)), self.split(self.v(kv))
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        w = q @ k.transpose(2, 3) / math.sqrt(self.dk)
        if mask is not None:
            w = w + mask
        w = w.float().softmax(-1)
        y = (w.to(v.dtype) @ v).transpose(1, 2).reshape(x.shape[0], -1, self.h * self.dk)
        return self.o(y), w, (k, v)


class EncoderLayer(nn.Module):
    def __init__(self, dim, heads, ff):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.att = Attention(dim, heads)
        self.ff = nn.Sequential(nn.Linear(dim, ff), nn.GELU(approximate="tanh"), nn.Linear(ff, dim))

    def forward(self, x):
        x = x + self.att(self.n1(x))[0]
        return x + self.ff(self.n2(x))


class DecoderLayer(nn.Module):
    def __init__(self, dim, heads, ff):
        super().__init__()
        self.n1, self.n2, self.n3 = (nn.LayerNorm(dim) for _ in range(3))
        self.own, self.cross = Attention(dim, heads), Attention(dim, heads)
        self.ff = nn.Sequential(nn.Linear(dim, ff), nn.GELU(approximate="tanh"), nn.Linear(ff, dim))

    def forward(self, x, enc, past, mask):
        y, _, present = self.own(self.n1(x), past=past, mask=mask)
        x = x + y
        y, w, _ = self.cross(self.n2(x), kv=enc)
        x = x + y
        return x + self.ff(self.n3(x)), w, present


class Encoder(nn.Module):
    """Four by four pixels become channels, then residual stages at 64 x 64, 32 x 32 and 16 x 16, then attention."""

    def __init__(self, labels, dim=128, heads=4, layers=1, widths=(32, 64, 128)):
        super().__init__()
        a, b, c = widths
        self.stem = nn.Sequential(conv(16, a), nn.ReLU())
        self.s8 = nn.Sequential(Block(a, b, 2), Block(b, b))
        self.s16 = nn.Sequential(Block(b, c, 2), Block(c, c))
        self.proj = nn.Conv2d(c, dim, 1)
        self.pos = nn.Parameter(torch.randn(1, GRID * GRID, dim) * 0.02)
        self.layers = nn.ModuleList(EncoderLayer(dim, heads, 2 * dim) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.find = nn.Linear(2 * dim, labels)
        # only for training: which cells hold which finding, and a nodule's size on the finer grid
        self.cells = nn.Linear(dim, labels)
        self.cells8 = nn.Conv2d(b, 3, 1)

    def forward(self, pixels):
        x = F.pixel_unshuffle(pixels.mean(1, keepdim=True), 4)
        f8 = self.s8(self.stem(x))
        x = self.proj(self.s16(f8)).flatten(2).transpose(1, 2) + self.pos
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return x, self.find(torch.cat([x.mean(1), x.amax(1)], -1)), f8


class Decoder(nn.Module):
    def __init__(self, dim=128, heads=4, layers=2):
        super().__init__()
        self.tok = nn.Embedding(len(VOCAB), dim)
        self.pos = nn.Embedding(MAX_LENGTH, dim)
        nn.init.normal_(self.tok.weight, std=0.05)
        nn.init.normal_(self.pos.weight, std=0.02)
        self.layers = nn.ModuleList(DecoderLayer(dim, heads, 2 * dim) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, len(VOCAB))

    def forward(self, ids, enc, past=None):
        s = ids.shape[1]
        p = past[0][0].shape[2] if past is not None else 0
        at = torch.arange(s, device=ids.device) + p
        mask = torch.where(torch.arange(s + p, device=ids.device)[None] > at[:, None], -1e9, 0.0)
        x = self.tok(ids) + self.pos(at)[None]
        cross, present = [], []
        for i, layer in enumerate(self.layers):
            x, w, pr = layer(x, enc, past[i] if past is not None else None, mask)
            cross.append(w)
            present.append(pr)
        return self.head(self.norm(x)), present, cross


class Model(nn.Module):
    def __init__(self, labels, dim=128, heads=4):
        super().__init__()
        self.dim, self.heads = dim, heads
        self.encoder, self.decoder = Encoder(labels, dim, heads), Decoder(dim, heads)
