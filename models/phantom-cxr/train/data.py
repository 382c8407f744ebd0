"""Training, validation and test phantoms as one array of bytes and one list of truths, cached in a folder."""
from __future__ import annotations

import os
import pickle
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image

import phantom

SIZE = 256
FIRST_SEED = {"train": 1_000_000, "validation": 5_000_000, "test": 9_000_000}
SOURCE_SIZES = [(384, 384), (432, 384), (384, 448)]  # one phantom in eight is drawn larger and reduced as in use


def draw(seed: int):
    p = phantom.plan(seed)
    h, w = (SIZE, SIZE) if seed % 8 else SOURCE_SIZES[(seed // 8) % len(SOURCE_SIZES)]
    img = Image.fromarray((phantom.render(p, h, w) * 255 + 0.5).astype(np.uint8))
    if (h, w) != (SIZE, SIZE):
        img = img.resize((SIZE, SIZE), Image.BILINEAR)
    truth = [dict(finding=f.finding, side=f.side, zone=f.zone, size=f.size, sentence=f.sentence(), box=f.box)
             for f in p.findings]
    return np.asarray(img), truth


def _init():
    os.nice(5)


def load(split: str, n: int, cache: Path, workers: int = 2):
    """(images u8 [n, 256, 256], truths); drawn once, then read from the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    images, truths = cache / f"{split}-{n}.npy", cache / f"{split}-{n}.pkl"
    if not truths.exists():
        out = np.lib.format.open_memmap(images, mode="w+", dtype=np.uint8, shape=(n, SIZE, SIZE))
        truth = []
        first = FIRST_SEED[split]
        with Pool(workers, initializer=_init) as pool:
            for i, (img, t) in enumerate(pool.imap(draw, range(first, first + n), chunksize=32)):
                out[i] = img
                truth.append(t)
                if i % 2000 == 1999:
                    print(f"{split}: {i + 1} of {n} phantoms", flush=True)
        out.flush()
        truths.write_bytes(pickle.dumps(truth))
    return np.load(images, mmap_mode="r"), pickle.loads(truths.read_bytes())
