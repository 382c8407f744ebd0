"""Writes what Transformers' logits processors and warpers (5.23) make of random scores.

python logits.py logits.json
"""

import json
import random
import sys

import torch
from transformers import GenerationConfig
from transformers.generation.utils import GenerationMixin

EOS = [1, 4]


class Config:
    is_encoder_decoder = False

    def get_text_config(self, **_):
        return self


class Model(GenerationMixin):
    config = Config()


def scores(rng, count):
    return [round(rng.gauss(0, 3), 3) for _ in range(count)]


def processed(options, prompt, ids, values, limit):
    config = GenerationConfig(**options)
    config.eos_token_id = EOS
    config._eos_token_tensor = torch.tensor(EOS)
    config.max_length = limit
    if config.min_new_tokens is not None:
        config.min_length = config.min_new_tokens + len(prompt)
    model = Model.__new__(Model)
    prompt = torch.tensor([prompt])
    processors = model._get_logits_processor(
        config, input_ids_seq_length=prompt.shape[1], encoder_input_ids=prompt, device="cpu"
    )
    ids = torch.tensor([ids])
    return processors(ids, torch.tensor([values]))[0].tolist()


def listed(values):
    return [None if value == float("-inf") else value for value in values]


def main():
    rng = random.Random(11)
    warpers = [
        {"temperature": 0.7}, {"top_k": 3}, {"top_k": 0, "top_p": 0.6}, {"top_p": 0.01}, {"min_p": 0.2},
        {"typical_p": 0.4}, {"typical_p": 0.9}, {"epsilon_cutoff": 0.02}, {"eta_cutoff": 0.05}, {"top_k": 100},
        {"temperature": 1.7, "top_k": 9, "top_p": 0.8, "min_p": 0.05, "typical_p": 0.8, "eta_cutoff": 0.01},
    ]  # fmt: skip
    out = {"warpers": [], "processors": []}
    for options in warpers * 3:
        values = scores(rng, rng.choice([5, 20, 70]))
        options = {"top_k": 50, **options}
        expected = processed({**options, "do_sample": True}, [0], [0], values, 50)
        out["warpers"].append({"options": options, "scores": values, "expected": listed(expected)})
    for _ in range(60):
        size = 12
        draw = lambda count: [rng.randrange(size) for _ in range(count)]  # noqa: E731
        prompt = draw(rng.choice([1, 2, 5]))
        ids = prompt + draw(rng.choice([0, 1, 3, 6]))
        every = {
            "repetition_penalty": rng.choice([0.8, 1.3]), "encoder_repetition_penalty": rng.choice([0.7, 1.5]),
            "no_repeat_ngram_size": rng.choice([1, 2, 3]), "encoder_no_repeat_ngram_size": rng.choice([1, 2]),
            "bad_words_ids": [draw(1), draw(2), ids[-1:] + draw(1), [1]], "min_length": rng.choice([3, 8]),
            "min_new_tokens": rng.choice([0, 2, 5]), "forced_bos_token_id": rng.randrange(size),
            "forced_eos_token_id": EOS[:1], "suppress_tokens": draw(2), "begin_suppress_tokens": draw(2),
        }  # fmt: skip
        options = {key: every[key] for key in rng.sample(sorted(every), rng.choice([1, 2, 5]))}
        limit = rng.choice([len(ids) + 1, 20])
        values = scores(rng, size)
        expected = processed(options, prompt, ids, values, limit)
        out["processors"].append({
            "options": options, "prompt": len(prompt), "ids": ids, "limit": limit, "scores": values,
            "expected": listed(expected),
        })  # fmt: skip
    for key in out:
        out[key] = ["\n" + json.dumps(case) for case in out[key]]
    text = ",\n".join(f'"{key}": [{",".join(cases)}\n]' for key, cases in out.items())
    with open(sys.argv[1], "w") as file:
        file.write("{\n" + text + "\n}\n")


if __name__ == "__main__":
    main()
