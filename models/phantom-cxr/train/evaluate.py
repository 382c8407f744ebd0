"""Figures on fresh phantoms, measured on the exported files with ONNX Runtime, one phantom at a time."""
from __future__ import annotations

import datetime
import json
import os
import time
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before ONNX Runtime is imported, which reports to its maker otherwise

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

import data
import phantom

LABELS = phantom.LABELS
WORDS = {"nodule": "nodule in", "consolidation": "onsolidation", "pleural_effusion": "pleural effusion",
         "pneumothorax": "pneumothorax", "cardiomegaly": "heart is enlarged", "endotracheal_tube": "ndotracheal tube",
         "central_line": "central venous line", "pacemaker": "pacemaker"}


def parse(sentence: str):
    kind = next((k for k, w in WORDS.items() if w in sentence), None)
    low = f" {sentence.lower()} "
    side = next((s for s in ("left", "right") if f" {s} " in low), None)
    return kind, side


class Reader:
    def __init__(self, folder: Path, threads: int = 2):
        o = ort.SessionOptions()
        o.intra_op_num_threads = threads
        o.add_session_config_entry("session.intra_op.allow_spinning", "0")
        cpu = ["CPUExecutionProvider"]
        self.encoder = ort.InferenceSession(str(folder / "encoder_model.onnx"), o, providers=cpu)
        self.decoder = ort.InferenceSession(str(folder / "decoder_model_merged.onnx"), o, providers=cpu)
        self.tok = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.gen = json.loads((folder / "generation_config.json").read_text())
        self.past = {i.name: i.shape for i in self.decoder.get_inputs() if i.name.startswith("past")}
        self.names = [o.name for o in self.decoder.get_outputs()]
        self.cross = "cross_attentions.1"

    def read(self, u8: np.ndarray):
        """u8 [256, 256] -> (report, [(sentence, heat map 16 x 16)], finding logits)"""
        x = ((u8.astype(np.float32) / 255 - 0.5) / 0.5)[None, None].repeat(3, 1)
        enc, find = self.encoder.run(None, {"pixel_values": x})
        past = {k: np.zeros((1, s[1], 0, s[3]), np.float32) for k, s in self.past.items()}
        token, ids, maps = self.gen["decoder_start_token_id"], [], []
        while len(ids) + 1 < self.gen["max_length"]:
            out = dict(zip(self.names, self.decoder.run(None, {
                "input_ids": np.array([[token]], np.int64), "encoder_hidden_states": enc, **past})))
            past = {k: out[k.replace("past_key_values", "present")] for k in past}
            token = int(out["logits"][0, -1].argmax())
            ids.append(token)
            maps.append(out[self.cross][0, :, -1].mean(0))
            if token == self.gen["eos_token_id"]:
                break
        sentences, words, heat = [], [], []
        for t, m in zip(ids, maps):
            words.append(t)
            heat.append(m)
            if self.tok.id_to_token(t) == ".":
                sentences.append((self.tok.decode(words), np.mean(heat, 0).reshape(16, 16)))
                words, heat = [], []
        return self.tok.decode(ids, skip_special_tokens=True), sentences, find[0]


def hit(heat: np.ndarray, box, dilate=0.5) -> bool:
    """Best cell's centre inside the box grown by half a cell."""
    r, c = np.unravel_index(int(heat.argmax()), heat.shape)
    n = heat.shape[0]
    x, y, d = (c + 0.5) / n, (r + 0.5) / n, dilate / n
    return box[0] - d <= x <= box[2] + d and box[1] - d <= y <= box[3] + d


def figures(reader: Reader, images, truths):
    exact = swapped = sided = 0
    tp, fp, fn, full = ({k: 0 for k in LABELS} for _ in range(4))
    hits, seen = ({k: 0 for k in LABELS} for _ in range(2))
    good = named = truth_n = agree = chance = 0
    wrong, times = [], []
    for i, truth in enumerate(truths):
        t0 = time.perf_counter()
        text, sentences, logits = reader.read(images[i])
        times.append(time.perf_counter() - t0)
        want = [f["sentence"] for f in truth] or ["No abnormality."]
        exact += text == " ".join(want)
        if text != " ".join(want) and len(wrong) < 40:
            wrong.append({"phantom": i, "truth": " ".join(want), "read": text})
        got = [s for s, _ in sentences]
        good += len(set(got) & set(want))
        named += len(got)
        truth_n += len(want)
        have = {f["finding"] for f in truth}
        agree += sum((logits[k] > 0) == (LABELS[k] in have) for k in range(len(LABELS)))
        for k in LABELS:
            mine = [(parse(s), s, h) for s, h in sentences if parse(s)[0] == k]
            true = [f for f in truth if f["finding"] == k]
            if mine and true and true[0]["side"]:
                sides = {f["side"] for f in true}
                sided += len(mine)
                swapped += sum(m[0][1] not in sides for m in mine)
            match = min(len(mine), len(true))
            tp[k] += match
            fn[k] += len(true) - match
            fp[k] += len(mine) - match
            for (_, side), s, h in mine:
                f = next((f for f in true if f["side"] == side), None)
                if f:
                    full[k] += s == f["sentence"]
                    seen[k] += 1
                    hits[k] += hit(h, f["box"])
                    b, d = f["box"], 0.5 / 16
                    at = (np.arange(16) + 0.5) / 16
                    chance += ((at >= b[0] - d) & (at <= b[2] + d)).mean() * ((at >= b[1] - d) & (at <= b[3] + d)).mean()
    n = len(truths)
    rnd = lambda a, b: round(a / b, 4) if b else None
    return {
        "phantoms": n, "exact_report": rnd(exact, n), "sentence_precision": rnd(good, named),
        "sentence_recall": rnd(good, truth_n), "side_right_when_named": rnd(sided - swapped, sided),
        "sides_named": sided, "sides_swapped": swapped,
        "attention_best_cell_in_box": rnd(sum(hits.values()), sum(seen.values())),
        "attention_sentences": sum(seen.values()), "attention_by_chance": rnd(chance, sum(seen.values())),
        "finding_logits_agree": rnd(int(agree), n * len(LABELS)),
        "per_finding": {k: {"in_truth": tp[k] + fn[k], "recall": rnd(tp[k], tp[k] + fn[k]),
                            "precision": rnd(tp[k], tp[k] + fp[k]),
                            "whole_sentence_right_when_named": rnd(full[k], tp[k]),
                            "attention_best_cell_in_box": rnd(hits[k], seen[k])} for k in LABELS},
        "median_ms_per_report": round(1000 * float(np.median(times)), 1),
    }, wrong


def evaluate(folder: Path, cache: Path, out: Path, run: dict | None, threads: int, split="test", n=500):
    images, truths = data.load(split, n, cache)
    result, wrong = figures(Reader(folder, threads), images, truths)
    old = json.loads(out.read_text()) if out and out.exists() else {}
    result = {"date": datetime.date.today().isoformat(), "first_seed": data.FIRST_SEED[split],
              "training": run or old.get("training"), **result, "wrong": wrong}
    if out:
        out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "wrong"}, indent=2))
    return result
