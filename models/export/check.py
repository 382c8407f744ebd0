"""python -m export.check: exports tiny random models of each family and compares them with Transformers.

First with the plain loop over ONNX Runtime in Python; then, with --preread, with `preread model run` on the same cases.
"""
from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers

from .expected import end_tokens, expect, statistics
from .export import export_model
from .families import MODULES, family
from .quantize import SUFFIX
from .reference import Model

FEATURES, LOGITS, PIXELS = 1e-3, 1e-3, 1e-5
# The recipe whose model.toml goes beside the tiny model of a family.
RECIPES = {"gemma3": "medgemma-4b", "paligemma": "paligemma-2", "qwen2_5_vl": "qwen2.5-vl", "idefics3": "smolvlm",
           "florence2": "florence-2", "vision_encoder_decoder": "vit-gpt2-chest", "siglip": "medsiglip"}


class Difference(Exception):
    """What is not equal, and by how much."""


def close(what: str, found, expected, tolerance: float) -> float:
    """The largest difference, relative where numbers are above 1; raises when it exceeds `tolerance`."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        raise Difference(f"{what}: {found.shape} values instead of {expected.shape}")
    by = float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max(initial=0))
    if not by <= tolerance:
        raise Difference(f"{what}: differs by {by:.2e}, allowed are {tolerance:.0e}")
    return by


def same(what: str, found, expected) -> None:
    if found != expected:
        raise Difference(f"{what}: {found!r} instead of {expected!r}")


def with_loop(chosen, model, graphs: Model, case: dict, inputs: dict) -> dict:
    """The plain loop's answer to a case."""
    gen = {**model.generation_config.to_diff_dict(), **case["gen"]}
    ids = inputs["input_ids"][0].tolist() if "input_ids" in inputs else []
    if model.config.is_encoder_decoder:
        states, features = chosen.encode_onnx(model, graphs, inputs)
        found = graphs.seq2seq(states, [case["decoder_start_token_id"]], gen, end_tokens(model))
        found["image_features"] = features
    else:
        found = graphs.chat(chosen.vision_feeds(inputs), partial(chosen.arrange, model, inputs=inputs), ids,
                            chosen.image_token(model), chosen.positions(model, inputs).numpy(), gen,
                            end_tokens(model))
    return found


def with_onnxruntime(chosen, model, graphs: Model, case: dict, inputs: dict) -> dict[str, float]:
    """Compares the plain loop's answer to a case with the case; gives the largest differences."""
    if case["gen"].get("num_beams", 1) != 1:
        return {}
    found = with_loop(chosen, model, graphs, case, inputs)
    differences = {}
    if found.get("image_features") is not None:
        short = statistics(found["image_features"])
        differences["features"] = max(
            close(f"image features, {key}", short[key], case["image_features"][key], FEATURES)
            for key in ("first", "strided"))
    top = [i for i, _ in case["logits_step1"]["top"]]
    differences["logits"] = close("logits of the first step", found["logits"][0][top],
                                  [score for _, score in case["logits_step1"]["top"]], LOGITS)
    same("generated ids", found["generated_ids"], case["generated_ids"])
    probabilities = torch.log_softmax(torch.tensor(found["logits"]), -1)
    tokens = found["generated_ids"][-len(probabilities):]
    differences["logprobs"] = close("log-probabilities", [float(probabilities[i, t]) for i, t in enumerate(tokens)],
                                    case["logprobs"], LOGITS)
    return differences


def run_preread(program: str, folder: Path, case: dict, dtype: str = "fp32") -> dict:
    """What `preread model run` answers to a case."""
    command = [program, "model", "run", str(folder), "--json", "--gen", json.dumps(case.get("gen", {}))]
    for name in case.get("images", [case.get("image")]):
        command += ["--image", str(folder / name)]
    text = case.get("task") or case.get("text_prompt") or case.get("hypothesis_template") or (
        next((item["text"] for item in case["messages"][0]["content"] if item["type"] == "text"), None)
        if case.get("messages") else None)
    if text is not None:
        command += ["--prompt", text]
    if SUFFIX[dtype]:
        command += ["--dtype", SUFFIX[dtype].strip("_")]
    if case.get("processor"):
        command += ["--processor", json.dumps(case["processor"])]
    if "candidate_labels" in case:
        command += ["--labels", ",".join(case["candidate_labels"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise Difference(f"preread: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)


def with_preread(program: str, folder: Path, case: dict) -> dict[str, float]:
    """Compares `preread model run` on a case with the case; gives the largest differences."""
    found, differences = run_preread(program, folder, case), {}
    if not case.get("image_tokens") and "input_ids" in case:
        same("input ids", found["input_ids"], case["input_ids"])
    if "candidate_labels" in case:
        return {key: close(key, found[key], case[key], LOGITS) for key in ("logits_per_image", "probs")}
    for key in ("shape", "sum", "abs_sum", "min", "max", "first"):
        differences["pixels"] = max(differences.get("pixels", 0), close(
            f"pixel values, {key}", found["pixel_values"][key], case["pixel_values"][key], PIXELS))
    same("generated ids", found["generated_ids"], case["generated_ids"])
    same("text", found["text"], case["text"])
    if "logits_step1" in case:
        differences["logits"] = close("logits of the first step", [s for _, s in found["logits_step1"]["top"]],
                                      [s for _, s in case["logits_step1"]["top"]], LOGITS)
        differences["logprobs"] = close("log-probabilities", found["logprobs"], case["logprobs"], LOGITS)
    return differences


def first_step_off(found: np.ndarray, expected: list) -> float:
    """The largest difference of the ten best scores, as a share of the largest of them."""
    best = np.array(expected)
    return float(np.abs(found[best[:, 0].astype(int)] - best[:, 1]).max() / np.abs(best[:, 1]).max())


def reduced(chosen, model, folder: Path, dtype: str, cases: list[tuple[dict, dict]], preread: str | None) -> str:
    """How far the graphs of a smaller type are from float32: the first step's scores, and how many answers agree.

    With `preread`, its first step has to be that of the plain loop over the same graphs within 5 %; its tokens need
    not, because rounding decides between scores that lie close together.
    """
    graphs = Model(folder / chosen.graph_folder, SUFFIX[dtype])
    off = other = 0.0
    count = equal = alike = 0
    for case, inputs in cases:
        if "logits_step1" not in case:
            continue
        found = with_loop(chosen, model, graphs, case, inputs)
        off = max(off, first_step_off(found["logits"][0], case["logits_step1"]["top"]))
        equal, count = equal + (found["generated_ids"] == case["generated_ids"]), count + 1
        if preread:
            answer = run_preread(preread, folder, case, dtype)
            other = max(other, first_step_off(found["logits"][0], answer["logits_step1"]["top"]))
            alike += answer["generated_ids"] == found["generated_ids"]
    if not (np.isfinite(off) and other < 0.05):
        raise Difference(f"{dtype}: the first step is off by {off:.2f} of its scores, preread's by {other:.2f}")
    told = f"; preread: off by {other:.0e} of the loop, {alike} of {count} answers as the loop's" if preread else ""
    return f"{dtype}: first step off by {off:.0e} of the largest score, {equal} of {count} answers as in float32{told}"


def check(name: str, seed: int, folder: Path, dtypes: list[str], preread: str | None) -> int:
    """Exports and compares one tiny model; gives the number of cases that differ."""
    chosen = family(name)
    with tempfile.TemporaryDirectory() as checkpoint:
        chosen.tiny(seed, Path(checkpoint))
        export_model(chosen, Path(checkpoint), folder, ["fp32", *dtypes])
        if name in RECIPES:
            recipe = Path(__file__).parent.parent / RECIPES[name]
            shutil.copyfile(recipe / "model.toml", folder / "model.toml")
            if f"export {name} --from" not in (recipe / "README.md").read_text(encoding="utf-8"):
                raise SystemExit(f"{recipe / 'README.md'} does not export {name}")
        model, processor = chosen.load(checkpoint), chosen.processor(checkpoint)
        graphs = Model(folder / chosen.graph_folder)
        cases = getattr(chosen, "expect", lambda *rest: expect(chosen, *rest))(
            model, processor, seed, folder, graphs.interface())
    bad, worst, by_preread = 0, {}, {}
    for case, inputs in cases:
        what = f"{name} {seed} {case.get('image') or case.get('images')} {case.get('mode', '')}"
        run = getattr(chosen, "with_onnxruntime", lambda *rest: with_onnxruntime(chosen, *rest))
        for label, into, compare in (
                ("onnxruntime", worst, lambda: run(model, graphs, case, inputs)),
                ("preread", by_preread, (lambda: with_preread(preread, folder, case)) if preread else None)):
            try:
                for key, value in (compare() if compare else {}).items():
                    into[key] = max(into.get(key, 0), value)
            except Difference as difference:
                bad += 1
                print(f"{what}, {label}: {difference}", flush=True)
    answers = "generated_ids" in cases[0][0]
    notes = []
    for dtype in dtypes if answers else []:
        try:
            notes.append(reduced(chosen, model, folder, dtype, cases, preread))
        except Difference as difference:
            bad += 1
            notes.append(str(difference))
    sizes = ", ".join(f"{key} {value:.0e}" for key, value in worst.items())
    told = ", ".join(f"{key} {value:.0e}" for key, value in by_preread.items())
    distinct = len({tuple(case.get("generated_ids", case.get("probs", []))) for case, _ in cases})
    print(f"{name} {seed}: {len(cases)} cases, {distinct} different answers, {bad} differ; largest: {sizes}"
          + (f"; preread: {told}" if preread else ""), *notes, sep="\n  ", flush=True)
    return bad


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m export.check", description=__doc__)
    parser.add_argument("families", nargs="*", default=[], help="all when none is named")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--dtype", nargs="+", choices=[key for key in sorted(SUFFIX) if key != "fp32"], default=[])
    parser.add_argument("--preread", help="the program to compare as well")
    parser.add_argument("--keep", type=Path, help="where the model folders stay, as FAMILY-SEED; else they are removed")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.families or sorted(MODULES):
            for seed in arguments.seeds:
                place = (arguments.keep or Path(folder)) / f"{name}-{seed}"
                bad += check(name, seed, place, arguments.dtype, arguments.preread)
    sys.exit(min(bad, 1))


if __name__ == "__main__":
    main()
