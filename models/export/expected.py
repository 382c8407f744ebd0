"""expected.json: what Transformers makes of the cases, in short, for whoever runs the same model elsewhere."""
from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from .family import Case, Family
from .tiny import pictures, write_json


def statistics(tensor) -> dict:
    """A tensor in short: shape, sums, bounds, the first 16 values and 64 at equal distances."""
    values = np.ascontiguousarray(np.asarray(tensor, dtype=np.float32))
    flat = values.reshape(-1)
    return {"shape": list(values.shape), "dtype": "float32", "sum": float(flat.sum(dtype=np.float64)),
            "abs_sum": float(np.abs(flat).sum(dtype=np.float64)), "min": float(flat.min()), "max": float(flat.max()),
            "first": flat[:16].tolist(), "strided": flat[::max(1, flat.size // 64)][:64].tolist(),
            "sha256_f32le": hashlib.sha256(flat.astype("<f4").tobytes()).hexdigest()}


def scores(logits: np.ndarray) -> dict:
    """The scores of the first generated token, in short."""
    order = np.argsort(-logits, kind="stable")[:10]
    return {"n": len(logits), "first": logits[:16].tolist(), "top": [[int(i), float(logits[i])] for i in order],
            "sum": float(logits.sum(dtype=np.float64))}


def logprobs(logits: np.ndarray, ids: list[int]) -> list[float]:
    """Natural logarithm of the probability of each token, from the scores before any processing."""
    found = torch.log_softmax(torch.tensor(logits), -1)
    return [float(found[i, token]) for i, token in enumerate(ids)]


def end_tokens(model) -> list[int]:
    """The end tokens of a model's generation options, as a list."""
    found = model.generation_config.eos_token_id
    return found if isinstance(found, list) else [] if found is None else [found]


def image_fields(case: Case) -> dict:
    names = [f"image{i}.png" for i in case.images]
    return {"image": names[0]} if len(names) == 1 else {"images": names}


def answer(family: Family, model, processor, case: Case, images: list) -> tuple[dict, dict]:
    """A case as Transformers answers it: the fields of expected.json, and the inputs that it was answered from."""
    inputs, about = family.encode(processor, case, [images[i].convert("RGB") for i in case.images])
    with torch.no_grad():
        out = model.generate(**inputs, **case.gen, return_dict_in_generate=True, output_logits=True, do_sample=False)
        features = family.features(model, inputs)
    ids = out.sequences[0].tolist()
    kept = ids if model.config.is_encoder_decoder else ids[inputs["input_ids"].shape[1]:]
    beams = case.gen.get("num_beams", 1)
    record = {
        **image_fields(case), **about,
        **({"input_ids": inputs["input_ids"][0].tolist()} if "input_ids" in inputs else {}),
        **family.extra(model, inputs, case), **({"processor": case.processor} if case.processor else {}),
        "mode": case.mode, "gen": case.gen, "generated_ids": kept,
        "text": processor.decode(kept, skip_special_tokens=True), "pixel_values": statistics(inputs["pixel_values"]),
    }
    if features is not None:
        record["image_features"] = statistics(features)
    if beams == 1:
        logits = torch.stack([step[0] for step in out.logits]).float().numpy()
        record["logits_step1"] = scores(logits[0])
        record["logprobs"] = logprobs(logits, ids[-len(logits):])
    return record, inputs


def expect(family: Family, model, processor, seed: int, folder: Path, graphs: dict) -> list[tuple[dict, dict]]:
    """Writes pictures and expected.json to `folder`; gives each case's record and inputs."""
    images = pictures(seed, family.sizes)
    for i, image in enumerate(images):
        image.save(folder / f"image{i}.png")
    found = [answer(family, model, processor, case, images) for case in family.cases(seed)]
    write_json(folder / "expected.json", {"family": model.config.model_type, "graphs": graphs,
                                          "cases": [record for record, _ in found]})
    return found
