"""Writes what the image processors of Transformers (5.23, Pillow form) make of random images.

python processors.py processors.json [CASES_PER_CLASS]

Every case has the keys of a folder, the options of a request, images (width, height, seed, grey) and what comes out: shape,
a few values, their sum and the SHA-256 of all of them as little-endian single precision. Needs transformers, pillow, torch.
"""

import hashlib
import importlib
import json
import random
import sys

import numpy as np
import torch
from PIL import Image

CLASSES = {
    "ViT": "vit", "DeiT": "deit", "Beit": "beit", "Bit": "bit", "Blip": "blip", "CLIP": "clip", "Siglip": "siglip",
    "Pvt": "pvt", "Levit": "levit", "ConvNext": "convnext", "Donut": "donut", "Llava": "llava",
    "LlavaNext": "llava_next", "LlavaOnevision": "llava_onevision", "Gemma3": "gemma3", "Idefics3": "idefics3",
    "SmolVLM": "smolvlm", "Qwen2VL": "qwen2_vl", "Phi3V": None,
}  # fmt: skip
# Gemma3Processor's own, which it passes to its image processor.
GEMMA3 = {
    "do_pan_and_scan": False, "pan_and_scan_min_crop_size": 256, "pan_and_scan_max_num_crops": 4,
    "pan_and_scan_min_ratio_to_activate": 1.2,
}  # fmt: skip


def picture(width, height, seed, grey):
    """Noise of a linear congruential generator."""
    states = np.empty(width * height * 3, dtype=np.uint8)
    state = seed
    for index in range(len(states)):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        states[index] = (state >> 16) & 0xFF
    rgb = states.reshape(height, width, 3)
    if grey:
        rgb = np.repeat(rgb[:, :, :1], 3, axis=2)
    return Image.fromarray(np.ascontiguousarray(rgb))


def phi3(images, keys):
    """Phi-3-vision's own image processor, which is not part of Transformers."""
    mean, std = (torch.tensor(keys[key]).view(3, 1, 1) for key in ("image_mean", "image_std"))
    crops, out, sizes = keys["num_crops"], [], []
    for image in images:
        upright = image.width < image.height
        if upright:
            image = image.transpose(Image.TRANSPOSE)
        ratio = image.width / image.height
        scale = 1
        while scale * np.ceil(scale / ratio) <= crops:
            scale += 1
        width = int((scale - 1) * 336)
        height = int(width / ratio)
        image = image.resize((width, height), Image.BILINEAR)
        full = int(np.ceil(height / 336) * 336)
        padded = Image.new("RGB", (width, full), (255, 255, 255))
        padded.paste(image, (0, int((full - height) / 2)))
        if upright:
            padded = padded.transpose(Image.TRANSPOSE)
        values = torch.from_numpy(np.array(padded)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        values = values.sub(mean).div(std)
        whole = torch.nn.functional.interpolate(values.unsqueeze(0), size=(336, 336), mode="bicubic")
        high, wide = values.shape[1:]
        tiles = values.reshape(1, 3, high // 336, 336, wide // 336, 336).permute(0, 2, 4, 1, 3, 5)
        tiles = torch.cat([whole, tiles.reshape(-1, 3, 336, 336)])
        blank = torch.zeros(crops + 1 - len(tiles), 3, 336, 336)
        out.append(torch.cat([tiles, blank]))
        sizes.append([high, wide])
    return {"pixel_values": torch.stack(out).numpy(), "image_sizes": sizes}


def run(case):
    name, keys, options = case["class"], case["keys"], case["options"]
    images = [picture(*image) for image in case["images"]]
    if name == "Phi3V":
        return phi3(images, {**keys, **options})
    module = importlib.import_module(f"transformers.models.{CLASSES[name]}.image_processing_pil_{CLASSES[name]}")
    processor = getattr(module, f"{name}ImageProcessorPil")(**keys)
    if name == "Gemma3":
        options = {**GEMMA3, **options}
    if name in ("Idefics3", "SmolVLM"):
        options = {**options, "return_row_col_info": True}
    nested = [images] if name in ("LlavaOnevision", "Idefics3", "SmolVLM") else images
    return processor(nested, return_tensors="np", **options)


def expectation(case):
    try:
        out = run(case)
    except Exception as error:
        return {"error": type(error).__name__}
    values = np.ascontiguousarray(np.asarray(out["pixel_values"], dtype=np.float32))
    flat = values.ravel()
    expected = {
        "shape": list(values.shape),
        "sum": float(flat.astype(np.float64).sum()),
        "values": [float(value) for value in flat[:: max(1, len(flat) // 16)][:16]],
        "sha256": hashlib.sha256(flat.astype("<f4").tobytes()).hexdigest(),
    }
    for key in ("image_grid_thw", "image_sizes", "num_crops", "rows", "cols"):
        if key in out:
            expected[key] = np.asarray(out[key]).tolist()
    if "pixel_attention_mask" in out:
        expected["mask"] = [list(out["pixel_attention_mask"].shape), int(out["pixel_attention_mask"].sum())]
    return expected


def case(name, rng):
    side = rng.choice([16, 24, 33, 48])
    other = rng.choice([16, 20, 40])
    square = {"height": side, "width": side}
    keys = {"resample": rng.choice([0, 1, 2, 3]), "image_mean": [0.48, 0.45, 0.4], "image_std": [0.26, 0.27, 0.28]}
    options = {}
    if rng.random() < 0.3:
        keys["rescale_factor"] = rng.choice([0.5, 1 / 127.5])
    if rng.random() < 0.15:
        options[rng.choice(["do_rescale", "do_normalize"])] = False
    several = 1
    if name in ("ViT", "DeiT", "Beit", "Pvt", "Blip", "Siglip", "CLIP", "Bit"):
        sizes = [side, [side, other], square, {"height": side, "width": other}]
        if name in ("CLIP", "Bit"):
            sizes += [{"shortest_edge": side}, {"shortest_edge": side, "longest_edge": side + other}]
        sizes += [{"max_height": side, "max_width": other}]
        keys["size"] = rng.choice(sizes)
        keys["do_center_crop"] = rng.random() < 0.5
        keys["crop_size"] = rng.choice([other, {"height": side, "width": other}])
        if rng.random() < 0.3:
            options["size"] = {"height": other, "width": side}
        if rng.random() < 0.2:
            keys |= {"do_pad": True, "pad_size": {"height": 60, "width": 64}}
        if rng.random() < 0.1:
            keys["do_resize"] = False
    elif name == "Levit":
        keys |= {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    elif name == "ConvNext":
        keys |= {"size": {"shortest_edge": rng.choice([side, 384])}, "crop_pct": rng.choice([0.875, 0.9])}
    elif name == "Donut":
        keys |= {"size": rng.choice([[side, other], {"height": side, "width": other}])}
        keys |= {"do_align_long_axis": rng.random() < 0.5, "do_thumbnail": rng.random() < 0.9, "do_pad": rng.random() < 0.9}
    elif name == "Llava":
        keys |= {"size": {"shortest_edge": side}, "crop_size": square, "do_pad": rng.random() < 0.6}
    elif name in ("LlavaNext", "LlavaOnevision"):
        several = rng.choice([1, 2])
        keys["image_grid_pinpoints"] = [[side, 2 * side], [2 * side, side], [2 * side, 2 * side], [side, 3 * side]]
        keys["size"] = {"shortest_edge": side} if name == "LlavaNext" else square
        if name == "LlavaNext":
            keys["crop_size"] = square
    elif name == "Gemma3":
        keys |= {"size": square, "do_pan_and_scan": True}
        several = rng.choice([1, 2])
        if rng.random() < 0.7:
            options |= {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": rng.choice([8, 20])}
    elif name in ("Idefics3", "SmolVLM"):
        several = rng.choice([1, 2])
        keys |= {"size": {"longest_edge": side * rng.choice([1, 2, 4])}, "max_image_size": {"longest_edge": side}}
        options["do_image_splitting"] = rng.random() < 0.7
    elif name == "Qwen2VL":
        several = rng.choice([1, 2])
        patch = rng.choice([4, 7])
        keys |= {"patch_size": patch, "merge_size": rng.choice([1, 2]), "temporal_patch_size": rng.choice([1, 2])}
        if rng.random() < 0.5:
            keys |= {"size": {"shortest_edge": 4 * patch * patch, "longest_edge": 64 * patch * patch}}
        else:
            keys |= {"min_pixels": 16 * patch * patch, "max_pixels": 50 * patch * patch}
    elif name == "Phi3V":
        several = rng.choice([1, 1, 2])
        keys |= {"num_crops": rng.choice([1, 3, 4])}
        keys.pop("rescale_factor", None)
        options = {}
    images = []
    for _ in range(several):
        long = rng.choice([1, 3, 30, 61, 97, 130])
        images.append([rng.choice([1, 2, 17, 40, 64, 75, 111]), long, rng.randrange(1, 1000), rng.random() < 0.3])
        rng.shuffle(images[-1][:2])
    return {"class": name, "keys": keys, "options": options, "images": images}


def main():
    rng = random.Random(7)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    cases = [case(name, rng) for name in CLASSES for _ in range(count)]
    lines = [json.dumps({**case, "expected": expectation(case)}) for case in cases]
    with open(sys.argv[1], "w") as out:
        out.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
