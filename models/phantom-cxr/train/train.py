#!/usr/bin/env python3
"""Makes the phantom-cxr model: draws phantoms, trains, exports to ONNX, evaluates on 500 fresh phantoms.

    python3 models/phantom-cxr/train/train.py                    # everything, two CPU cores, under two hours
    python3 models/phantom-cxr/train/train.py --evaluate-only    # only the figures, from the ONNX files in place

Seeds are fixed. The learning rate follows the number of steps, or the time limit where that comes first.
"""
from __future__ import annotations

import argparse
import copy
import math
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import data
import phantom
from model import BOS, EOS, GRID, PAD, Model, decode, encode_sentence

HERE = Path(__file__).resolve().parent
MODEL_DIR = HERE.parent
LABELS = phantom.LABELS
K = len(LABELS)
ATTENTION_LAYER = 1


class Truths:
    """Token ids, the sentence each token belongs to, and boxes, padded to arrays."""

    def __init__(self, truths):
        n, slots = len(truths), max(len(t) for t in truths) or 1
        rows, marks = [], []
        for t in truths:
            ids, mark = [BOS], []
            for k, s in enumerate([f["sentence"] for f in t] or ["No abnormality."]):
                w = encode_sentence(s)
                ids += w
                mark += [k if t else -1] * len(w)
            rows.append(ids + [EOS])
            marks.append(mark + [-1])
        width = max(map(len, rows))
        self.ids = torch.full((n, width), PAD)
        self.mark = torch.full((n, width - 1), -1)
        for i, (r, m) in enumerate(zip(rows, marks)):
            self.ids[i, :len(r)] = torch.tensor(r)
            self.mark[i, :len(m)] = torch.tensor(m)
        self.boxes = torch.zeros(n, slots, 4)
        self.kind = torch.full((n, slots), -1)
        self.small = torch.zeros(n, slots, dtype=torch.bool)
        for i, t in enumerate(truths):
            for k, f in enumerate(t):
                self.boxes[i, k] = torch.tensor(f["box"])
                self.kind[i, k] = LABELS.index(f["finding"])
                self.small[i, k] = f["size"] == "small"

    def batch(self, idx):
        ids = self.ids[idx]
        width = int((ids != PAD).sum(1).max())
        return ids[:, :width], self.mark[idx, :width - 1], self.boxes[idx], self.kind[idx], self.small[idx]


def augment(img, boxes, g):
    """Random view, window, blur and noise; `img` u8 [b,256,256] -> pixel values [b,1,256,256], boxes follow."""
    b = img.shape[0]
    u = lambda lo, hi: torch.rand(b, generator=g) * (hi - lo) + lo
    th, sx, sy, tx, ty = u(-0.08, 0.08), u(0.92, 1.08), u(0.92, 1.08), u(-0.08, 0.08), u(-0.08, 0.08)
    c, s = torch.cos(th), torch.sin(th)
    # output coordinates -> input coordinates, in -1..1
    A = torch.stack([torch.stack([c * sx, -s * sy, tx], 1), torch.stack([s * sx, c * sy, ty], 1)], 1)
    grid = F.affine_grid(A, (b, 1, 256, 256), align_corners=False)
    x = F.grid_sample(img[:, None].float() / 255, grid, align_corners=False, padding_mode="border")
    inv = torch.linalg.inv(A[:, :, :2])
    x0, y0, x1, y1 = (boxes * 2 - 1).unbind(-1)
    corners = torch.stack([torch.stack([x0, y0], -1), torch.stack([x1, y0], -1), torch.stack([x0, y1], -1),
                           torch.stack([x1, y1], -1)], 2)                      # b, slots, 4, 2
    q = (corners - A[:, None, None, :, 2]) @ inv.transpose(1, 2)[:, None]
    q = (q + 1) / 2
    # a turned box grows; keep its size and follow its centre
    mid, half = q.mean(2), torch.stack([x1 - x0, y1 - y0], -1) / 4 / torch.stack([sx, sy], -1)[:, None]
    boxes = torch.cat([mid - half, mid + half], -1).clamp(0, 1)
    low = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    x = x + (u(-0.9, 0.5) * (torch.rand(b, generator=g) < 0.6)).view(-1, 1, 1, 1) * (x - low)
    x = x.clamp(0, 1) ** torch.exp(u(-0.35, 0.35)).view(-1, 1, 1, 1)
    x = x * u(0.8, 1.15).view(-1, 1, 1, 1) + u(-0.08, 0.08).view(-1, 1, 1, 1)
    x = x + torch.randn(x.shape, generator=g) * (u(0, 0.03) * (torch.rand(b, generator=g) < 0.5)).view(-1, 1, 1, 1)
    return (x.clamp(0, 1) - 0.5) / 0.5, boxes


def cell_masks(boxes, dilate, n=GRID):
    """[.., 4] unit boxes -> [.., n, n] true where the cell's centre lies in the box grown by `dilate` cells."""
    at = (torch.arange(n) + 0.5) / n
    b = boxes[..., None, None, :]
    d = dilate / n
    inx = (at >= b[..., 0] - d) & (at <= b[..., 2] + d)                        # .., 1, n
    iny = (at[:, None] >= b[..., 1] - d) & (at[:, None] <= b[..., 3] + d)      # .., n, 1
    return inx & iny


def losses(model, x, ids, mark, boxes, kind, small):
    enc, find, f8 = model.encoder(x)
    logits, _, cross = model.decoder(ids[:, :-1], enc)
    ce = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=PAD, label_smoothing=0.02)
    b, slots = kind.shape
    have = kind >= 0
    hot = F.one_hot(kind.clamp(min=0), K).float() * have[..., None]
    bce = F.binary_cross_entropy_with_logits(find, hot.amax(1))
    # attention of a sentence: mean over heads and over the positions that predict its words
    w = cross[ATTENTION_LAYER].mean(1)                                         # b, t, 256
    sel = (mark[:, None] == torch.arange(slots)[None, :, None]).float()       # b, slots, t
    att = (sel @ w) / sel.sum(-1, keepdim=True).clamp(min=1)
    inside = cell_masks(boxes, 0.3).flatten(2).float()
    mass = (att * inside).sum(-1).clamp(min=1e-6)
    weight = have * torch.where(kind == 0, 2.0, 1.0)
    at = -(mass.log() * weight).sum() / weight.sum().clamp(min=1)
    # which cells hold which finding
    cells = torch.einsum("bsn,bsk->bnk", cell_masks(boxes, 0.2).flatten(2).float(), hot).clamp(max=1)
    dense = F.binary_cross_entropy_with_logits(model.encoder.cells(enc), cells, pos_weight=torch.tensor(3.0))
    k3 = torch.stack([(kind == 0) & small, (kind == 0) & ~small, kind == 1], -1).float()
    c8 = torch.einsum("bsn,bsk->bkn", cell_masks(boxes, 0.2, 32).flatten(2).float(), k3).clamp(max=1)
    fine = F.binary_cross_entropy_with_logits(model.encoder.cells8(f8).flatten(2), c8, pos_weight=torch.tensor(8.0))
    return ce + 0.5 * bce + 0.25 * at + 1.0 * dense + 1.0 * fine, dict(ce=ce, find=bce, att=at, dense=dense, fine=fine)


@torch.no_grad()
def greedy(model, enc, limit=48):
    ids = torch.full((enc.shape[0], 1), BOS)
    out, past, done = [], None, torch.zeros(enc.shape[0], dtype=torch.bool)
    for _ in range(limit):
        logits, past, _ = model.decoder(ids, enc, past)
        ids = logits[:, -1:].argmax(-1)
        out.append(torch.where(done[:, None], PAD, ids))
        done |= ids[:, 0] == EOS
        if done.all():
            break
    return [decode(r) for r in torch.cat(out, 1).tolist()]


@torch.no_grad()
def validate(model, images, truths):
    """Quick figures during training: exact reports, nodules found."""
    model.eval()
    exact = nod = nod_all = 0
    for i in range(0, len(truths), 50):
        x = (torch.from_numpy(np.array(images[i:i + 50])).float()[:, None] / 255 - 0.5) / 0.5
        for got, t in zip(greedy(model, model.encoder(x)[0]), truths[i:i + 50]):
            want = " ".join(f["sentence"] for f in t) or "No abnormality."
            exact += got == want
            for f in t:
                if f["finding"] == "nodule":
                    nod_all += 1
                    nod += "nodule in the" in got
    model.train()
    return exact / len(truths), nod / max(nod_all, 1)


def train(args, work: Path):
    torch.manual_seed(args.seed)
    g = torch.Generator().manual_seed(args.seed + 1)
    images, truths = data.load("train", args.phantoms, args.cache)
    vimg, vtruth = data.load("validation", 600, args.cache)
    t = Truths(truths)
    model = Model(K)
    model.encoder.to(memory_format=torch.channels_last)
    ema = copy.deepcopy(model)
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    opt = torch.optim.AdamW([dict(params=decay, weight_decay=0.03), dict(params=plain, weight_decay=0.0)],
                            lr=args.lr, betas=(0.9, 0.98))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    start, last, step, order, mean = time.time(), time.time(), 0, [], {}
    while True:
        progress = max(step / args.steps, (time.time() - start) / (60 * args.minutes))
        if progress >= 1:
            break
        lr = args.lr * min(1, (step + 1) / 150) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in opt.param_groups:
            group["lr"] = lr
        if len(order) < args.batch:
            order = torch.randperm(len(truths), generator=g).tolist()
        idx, order = sorted(order[:args.batch]), order[args.batch:]
        ids, mark, boxes, kind, small = t.batch(idx)
        x, boxes = augment(torch.from_numpy(np.array(images[idx])), boxes, g)
        loss, parts = losses(model, x.contiguous(memory_format=torch.channels_last), ids, mark, boxes, kind, small)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        step += 1
        with torch.no_grad():
            keep = min(0.998, step / (step + 20))
            for a, b in zip(ema.state_dict().values(), model.state_dict().values()):
                a.lerp_(b, 1 - keep) if a.is_floating_point() else a.copy_(b)
        for k, v in parts.items():
            mean[k] = 0.95 * mean.get(k, v.item()) + 0.05 * v.item()
        if step % 50 == 0:
            print(f"step {step} {time.time() - start:.0f} s lr {lr:.1e} "
                  + " ".join(f"{k} {v:.3f}" for k, v in mean.items()), flush=True)
        if time.time() - last > 240:
            torch.save(ema.state_dict(), work / "tmp.pt")
            os.replace(work / "tmp.pt", work / "ema.pt")
            exact, nod = validate(ema, vimg[:200], vtruth[:200])
            print(f"  validation: exact {exact:.3f} nodule recall {nod:.3f}", flush=True)
            last = time.time()
    torch.save(ema.state_dict(), work / "ema.pt")
    seconds = round(time.time() - start)
    exact, nod = validate(ema, vimg, vtruth)
    print(f"done: {step} steps, {seconds} s, validation exact {exact:.3f} nodule recall {nod:.3f}", flush=True)
    return dict(steps=step, batch=args.batch, seconds=seconds, phantoms=len(truths), seed=args.seed,
                validation=dict(phantoms=len(vtruth), exact_report=round(exact, 4), nodule_recall=round(nod, 4)))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--phantoms", type=int, default=24000)
    ap.add_argument("--steps", type=int, default=4000)
    ap.add_argument("--minutes", type=float, default=62, help="time limit of the training itself")
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--lr", type=float, default=1.2e-3)
    ap.add_argument("--seed", type=int, default=20261122)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "phantom-cxr-cache")
    ap.add_argument("--work", type=Path, default=None, help="checkpoints (default: the cache)")
    ap.add_argument("--model-dir", type=Path, default=MODEL_DIR)
    ap.add_argument("--results", type=Path, default=HERE / "RESULTS.json")
    ap.add_argument("--evaluate-only", action="store_true")
    ap.add_argument("--export-only", action="store_true", help="export the newest checkpoint, train nothing")
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    work = args.work or args.cache
    work.mkdir(parents=True, exist_ok=True)
    run = None
    if not (args.evaluate_only or args.export_only):
        run = train(args, work)
    import evaluate
    import export
    if not args.evaluate_only:
        export.export(work / "ema.pt", args.model_dir)
    if not args.export_only:
        evaluate.evaluate(args.model_dir, args.cache, args.results, run, args.threads)


if __name__ == "__main__":
    main()
