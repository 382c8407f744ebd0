"""What `cargo xtask bench infer` measures beside this project's engine. Each command prints a line of JSON.

python infer.py onnxruntime FAMILY FOLDER DTYPE IMAGE NEW_TOKENS THREADS   the same graphs by ONNX Runtime from Python
python infer.py transformers FAMILY FOLDER DTYPE IMAGE NEW_TOKENS THREADS  the same shapes in PyTorch, random weights
python infer.py genai FOLDER PROMPT_TOKENS NEW_TOKENS THREADS              onnxruntime-genai's own generator
python infer.py pillow KEYS WIDTH HEIGHT grey|colour REPEATS               an image processor of Transformers, Pillow form
python infer.py versions

Times are in milliseconds, memory in bytes. A first answer of two tokens does not count.
"""

import importlib
import json
import os
import statistics
import sys
import time
from pathlib import Path


def milliseconds(since):
    return (time.perf_counter() - since) * 1000


def peak():
    """The most memory that this process has had in RAM."""
    line = next(line for line in open("/proc/self/status", encoding="ascii") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def say(**figures):
    print(json.dumps({**figures, "peak": peak()}), flush=True)


def family_of(name):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models"))
    from export.families import family
    from export.family import Case
    return family(name), Case([0], "Describe this image.")


class Session:
    """A graph whose outputs stay where ONNX Runtime put them."""

    def __init__(self, path, threads):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        # The cache grows with each token, as the engine beside it has it too.
        options.enable_mem_pattern = False
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = {value.name: value for value in self.session.get_inputs()}
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.make = onnxruntime.OrtValue.ortvalue_from_numpy

    def __call__(self, feeds):
        feeds = {name: value if hasattr(value, "numpy") else self.make(value) for name, value in feeds.items()
                 if name in self.inputs}
        return dict(zip(self.outputs, self.session.run_with_ort_values(self.outputs, feeds)))


def onnxruntime_loop(name, folder, dtype, image, new_tokens, threads):
    import numpy as np
    from PIL import Image
    chosen, case = family_of(name)
    folder, threads, new_tokens = Path(folder), int(threads), int(new_tokens)
    began = time.perf_counter()
    processor = chosen.processor(str(folder))
    if (folder / "genai_config.json").exists():
        paths = [folder / f"{stem}.onnx" for stem in ("vision", "embedding", "text")]
    else:
        suffix = {"fp32": "", "q8": "_quantized"}[dtype]
        paths = [folder / "onnx" / f"{stem}{suffix}.onnx"
                 for stem in ("vision_encoder", "embed_tokens", "decoder_model_merged")]
    vision, embed, decoder = (Session(path, threads) for path in paths)
    load = milliseconds(began)
    picture = Image.open(image).convert("RGB")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    three_rows = name.startswith("qwen")

    def answer(count):
        began = time.perf_counter()
        inputs, _ = chosen.encode(processor, case, [picture])
        preprocess = milliseconds(began)
        began = time.perf_counter()
        feeds = {key: np.ascontiguousarray(inputs[key].numpy()) for key in chosen.image_arguments}
        features = vision(feeds)["image_features"].numpy()
        vision_time = milliseconds(began)
        began = time.perf_counter()
        ids = inputs["input_ids"].numpy()
        features = features.reshape(-1, features.shape[-1])
        if "image_features" in embed.inputs:
            embeds = embed({"input_ids": ids, "image_features": features})["inputs_embeds"]
        else:
            embeds = embed({"input_ids": ids})["inputs_embeds"].numpy()
            embeds[0, ids[0] == config["image_token_id"]] = features
        cache = {key: np.zeros([1, value.shape[1], 0, value.shape[3] if isinstance(value.shape[3], int) else size],
                               np.float32)
                 for key, value in decoder.inputs.items() if key.startswith("past_key_values.")
                 for size in [config["text_config"]["hidden_size"] // config["text_config"]["num_attention_heads"]]}
        length, seen, times = ids.shape[1], 0, []
        nothing = np.zeros((0, features.shape[1]), np.float32)
        while len(times) < count:
            fed = length if seen == 0 else 1
            positions = np.arange(seen, seen + fed)[None]
            found = decoder({"inputs_embeds": embeds, "attention_mask": np.ones((1, seen + fed), np.int64),
                             "position_ids": np.repeat(positions[None], 3, 0) if three_rows else positions,
                             "num_logits_to_keep": np.array(1), **cache})
            seen += fed
            cache = {key.replace("present.", "past_key_values."): value for key, value in found.items()
                     if key.startswith("present.")}
            token = int(found["logits"].numpy()[0, -1].argmax())
            times.append(milliseconds(began))
            if len(times) < count:
                embeds = embed({"input_ids": np.array([[token]]), "image_features": nothing})["inputs_embeds"]
        return dict(preprocess=preprocess, vision=vision_time, prefill=times[0], decode=times[-1] - times[0],
                    tokens=length, new_tokens=count)

    answer(2)
    say(load=load, **answer(new_tokens))


class Clock:
    """A streamer of `generate` that notes when each token came."""

    def __init__(self):
        self.times = []

    def put(self, _):
        self.times.append(time.perf_counter())

    def end(self):
        pass


def transformers_loop(name, folder, dtype, image, new_tokens, threads):
    import torch
    from PIL import Image
    from infer_models import model_of, read_json
    torch.set_num_threads(int(threads))
    chosen, case = family_of(name)
    processor = chosen.processor(folder)
    began = time.perf_counter()
    model = model_of(chosen, read_json(Path(folder) / "config.json"), getattr(torch, dtype))
    load = milliseconds(began)
    picture = Image.open(image).convert("RGB")

    def answer(count):
        began = time.perf_counter()
        inputs, _ = chosen.encode(processor, case, [picture])
        preprocess = milliseconds(began)
        inputs = {key: value.to(model.dtype) if value.is_floating_point() else value for key, value in inputs.items()}
        began = time.perf_counter()
        model.get_image_features(**{key: inputs[key] for key in chosen.image_arguments})
        vision = milliseconds(began)
        clock, began = Clock(), time.perf_counter()
        model.generate(**inputs, do_sample=False, max_new_tokens=count, min_new_tokens=count, repetition_penalty=1.0,
                       streamer=clock)
        # The first that the streamer gets is the prompt.
        first, last = clock.times[1], clock.times[-1]
        return dict(preprocess=preprocess, vision=vision, prefill=(first - began) * 1000 - vision,
                    decode=(last - first) * 1000, tokens=inputs["input_ids"].shape[1], new_tokens=count)

    with torch.no_grad():
        answer(2)
        say(load=load, **answer(int(new_tokens)))


def genai_loop(folder, tokens, new_tokens, threads):
    import numpy as np
    import onnxruntime_genai
    tokens, new_tokens = int(tokens), int(new_tokens)
    path = Path(folder) / "genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model"]["decoder"]["session_options"] |= {"intra_op_num_threads": int(threads), "inter_op_num_threads": 1}
    path.write_text(json.dumps(config), encoding="utf-8")
    began = time.perf_counter()
    model = onnxruntime_genai.Model(folder)
    load = milliseconds(began)

    def answer(count):
        parameters = onnxruntime_genai.GeneratorParams(model)
        parameters.set_search_options(do_sample=False, max_length=tokens + count, min_length=tokens + count)
        generator = onnxruntime_genai.Generator(model, parameters)
        began = time.perf_counter()
        generator.append_tokens((np.arange(tokens, dtype=np.int32) % 300 + 20)[None])
        generator.generate_next_token()
        prefill = milliseconds(began)
        for _ in range(count - 1):
            generator.generate_next_token()
        return dict(prefill=prefill, decode=milliseconds(began) - prefill, tokens=tokens, new_tokens=count)

    answer(2)
    say(load=load, **answer(new_tokens))


def pillow(keys, width, height, colour, repeats):
    import numpy as np
    import torch
    import transformers
    from PIL import Image
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    keys = json.loads(keys)
    name = keys.pop("image_processor_type").removesuffix("ImageProcessor")
    module = {"CLIP": "clip", "ViT": "vit", "Qwen2VL": "qwen2_vl"}.get(name, name.lower())
    module = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    processor = getattr(module, f"{name}ImageProcessorPil")(**keys)
    shape = (int(height), int(width), 1 if colour == "grey" else 3)
    levels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(np.broadcast_to(levels, (*shape[:2], 3))))
    times = []
    for _ in range(int(repeats)):
        began = time.perf_counter()
        processor(picture, return_tensors="np")
        times.append(milliseconds(began))
    print(statistics.median(times))


def versions():
    from importlib.metadata import version
    names = ["onnxruntime", "onnxruntime-genai", "torch", "transformers", "pillow", "numpy"]
    print(", ".join(f"{name} {version(name)}" for name in names))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    command, *arguments = sys.argv[1:]
    {"onnxruntime": onnxruntime_loop, "transformers": transformers_loop, "genai": genai_loop, "pillow": pillow,
     "versions": versions}[command](*arguments)
