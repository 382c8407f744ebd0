"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: pictures of any size as rows of patches, positions of three numbers."""
from __future__ import annotations

import torch
import transformers
from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessor

from ..family import Case, Family, decoder_graphs
from ..graphs import CausalMask, Graph, additive, allowed
from ..tiny import byte_level_tokenizer, choice, randomise, write_json

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


# Qwen3-VL says nothing of its own before the first message.
PLAIN_TEMPLATE = TEMPLATE.replace(
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}", "")


def rotate_half(x):
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), -1)


class Vision(torch.nn.Module):
    """The vision transformer over the patches of any number of pictures, without a loop over them.

    Patches come picture by picture, frame by frame, in blocks of merge x merge. Layers with windows see the patches in
    windows of equal size, padded where the picture ends; `slots` says where each patch has its place among them.
    Qwen3-VL has no windows; it adds learned positions, and gives features of deeper layers besides.
    """

    def __init__(self, visual):
        super().__init__()
        self.visual, self.config = visual, visual.config
        self.merge = self.config.spatial_merge_size
        self.whole = getattr(self.config, "fullatt_block_indexes", None)
        # Merged patches along a window's side; without windows the whole order is as it came.
        self.window = None if self.whole is None else self.config.window_size // self.merge // self.config.patch_size
        # Layers whose states are features as well.
        self.deep = list(getattr(self.config, "deepstack_visual_indexes", []))

    def places(self, patches, grid):
        """Picture-and-frame, window and place in the window, row and column of each patch; how many windows; and
        the rows and columns of the patch's picture."""
        frames, rows, columns = grid[:, 0], grid[:, 1], grid[:, 2]
        ends = (frames * rows * columns).cumsum(0)
        index = torch.arange(patches)
        picture = (index[:, None] >= ends[None, :]).long().sum(1)
        rows, columns, area = rows[picture], columns[picture], (rows * columns)[picture]
        place = index - (ends - frames * grid[:, 1] * grid[:, 2])[picture]
        first_frame = (frames.cumsum(0) - frames)[picture]
        frame, place = torch.div(place, area, rounding_mode="floor"), place % area
        merge, unit = self.merge, self.merge * self.merge
        block, within = torch.div(place, unit, rounding_mode="floor"), place % unit
        across = torch.div(columns, merge, rounding_mode="floor")
        block_row, block_column = torch.div(block, across, rounding_mode="floor"), block % across
        row = block_row * merge + torch.div(within, merge, rounding_mode="floor")
        column = block_column * merge + within % merge
        if self.window is None:
            return first_frame + frame, None, row, column, None, (rows, columns)
        side = self.window
        high = torch.div(torch.div(grid[:, 1], merge, rounding_mode="floor") + side - 1, side, rounding_mode="floor")
        wide = torch.div(torch.div(grid[:, 2], merge, rounding_mode="floor") + side - 1, side, rounding_mode="floor")
        windows = frames * high * wide
        window = ((windows.cumsum(0) - windows)[picture] + frame * (high * wide)[picture]
                  + torch.div(block_row, side, rounding_mode="floor") * wide[picture]
                  + torch.div(block_column, side, rounding_mode="floor"))
        slot = (window * side * side + block_row % side * side + block_column % side) * unit + within
        return first_frame + frame, slot, row, column, windows.sum(), (rows, columns)

    def learned_positions(self, row, column, size):
        """The square of learned positions, stretched over a picture corner to corner; linear between them."""
        side = self.visual.num_grid_per_side

        def neighbours(at, count):
            at = at.float() * (side - 1) / torch.clamp(count - 1, min=1)
            low = torch.floor(at)
            return low.long(), torch.clamp(low.long() + 1, max=side - 1), at - low

        upper, lower, down = neighbours(row, size[0])
        left, right, along = neighbours(column, size[1])
        table, down, along = self.visual.pos_embed, down[:, None], along[:, None]
        above = table(upper * side + left) * (1 - along) + table(upper * side + right) * along
        below = table(lower * side + left) * (1 - along) + table(lower * side + right) * along
        return above * (1 - down) + below * down

    def attention(self, block, hidden, cos, sin, mask, groups):
        """Self-attention of a layer; `groups` is the number of patches that attend to each other, -1 for all."""
        attention = block.attn
        qkv = attention.qkv(hidden).reshape(hidden.shape[0], 3, attention.num_heads, -1)
        query, key, value = qkv[:, 0], qkv[:, 1], qkv[:, 2]
        dtype = query.dtype
        query = (query.float() * cos + rotate_half(query.float()) * sin).to(dtype)
        key = (key.float() * cos + rotate_half(key.float()) * sin).to(dtype)
        shape = (1, -1) if groups == -1 else (-1, groups)
        query, key, value = (part.reshape(*shape, *part.shape[1:]).transpose(1, 2) for part in (query, key, value))
        weights = torch.matmul(query, key.transpose(2, 3)) * query.shape[-1] ** -0.5 + mask
        weights = torch.softmax(weights, -1, dtype=torch.float32).to(dtype)
        return attention.proj(torch.matmul(weights, value).transpose(1, 2).reshape(hidden.shape[0], -1))

    def forward(self, pixel_values, image_grid_thw):
        frame, slot, row, column, windows, size = self.places(pixel_values.shape[0], image_grid_thw)
        weight, bias = self.visual.patch_embed.proj.weight, self.visual.patch_embed.proj.bias
        hidden = torch.matmul(pixel_values.to(weight.dtype), weight.reshape(weight.shape[0], -1).t())
        if bias is not None:
            hidden = hidden + bias
        if hasattr(self.visual, "pos_embed"):
            hidden = hidden + self.learned_positions(row, column, size).to(hidden.dtype)
        angles = self.visual.rotary_pos_emb.inv_freq.float()
        angles = torch.cat([row[:, None] * angles, column[:, None] * angles], -1)
        angles = torch.cat([angles, angles], -1)
        if slot is not None:
            length = windows * (self.window * self.merge) ** 2
            hidden = torch.zeros(length, hidden.shape[1], dtype=hidden.dtype).index_copy(0, slot, hidden)
            angles = torch.zeros(length, angles.shape[1]).index_copy(0, slot, angles)
            # No patch has place -1; queries of empty places attend to each other and are never looked at.
            frame = torch.full((length,), -1, dtype=torch.int64).index_copy(0, slot, frame)
        whole = additive((frame[:, None] == frame[None, :])[None, None], hidden.dtype)
        cos, sin = angles.cos()[:, None], angles.sin()[:, None]
        if slot is not None:
            unit = (self.window * self.merge) ** 2
            parts = frame.reshape(-1, unit)
            part = additive((parts[:, :, None] == parts[:, None, :])[:, None], hidden.dtype)
        deeper = []
        for layer, block in enumerate(self.visual.blocks):
            all_see_all = slot is None or layer in self.whole
            mask, groups = (whole, -1) if all_see_all else (part, unit)
            hidden = hidden + self.attention(block, block.norm1(hidden), cos, sin, mask, groups)
            hidden = hidden + block.mlp(block.norm2(hidden))
            if layer in self.deep:
                deeper.append(self.visual.deepstack_merger_list[self.deep.index(layer)](hidden))
        if slot is not None:
            hidden = hidden[slot]
        merged = self.visual.merger(hidden)
        return (merged, *deeper) if deeper else merged


class Masks(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.kinds, self.window = set(config.layer_types), config.sliding_window

    def forward(self, inputs_embeds, attention_mask):
        queries, dtype = inputs_embeds.shape[1], inputs_embeds.dtype
        return {kind: additive(allowed(attention_mask, queries,
                                       self.window if kind == "sliding_attention" else None), dtype)
                for kind in sorted(self.kinds)}


class Processor:
    """Image processor and tokenizer as the families' processors join them; those classes need torchvision (video)."""

    def __init__(self, folder):
        self.images = Qwen2VLImageProcessor.from_pretrained(folder)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def apply_chat_template(self, *arguments, **options):
        return self.tokenizer.apply_chat_template(*arguments, **options)

    def decode(self, *arguments, **options):
        return self.tokenizer.decode(*arguments, **options)

    def __call__(self, text, images, **options):
        pixels = self.images(images=images, return_tensors="pt", **options)
        pad, merged = "<|image_pad|>", self.images.merge_size ** 2
        for grid in pixels["image_grid_thw"]:
            text = text.replace(pad, "<|placeholder|>" * int(grid.prod() // merged), 1)
        ids = self.tokenizer(text.replace("<|placeholder|>", pad), return_tensors="pt", add_special_tokens=False)
        kinds = (ids["input_ids"] == self.tokenizer.convert_tokens_to_ids(pad)).int()
        return {"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"], "mm_token_type_ids": kinds,
                **pixels}


class Qwen25VL(Family):
    name = "qwen2_5_vl"
    model_class = transformers.Qwen2_5_VLForConditionalGeneration
    image_arguments = ("pixel_values", "image_grid_thw")
    sizes = [(97, 61), (40, 133), (64, 64), (30, 20), (150, 150)]
    template = TEMPLATE
    levels = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}

    def processor(self, folder):
        return Processor(folder)

    def graphs(self, model) -> list[Graph]:
        vision, text = model.config.vision_config, model.model.language_model
        merge = vision.spatial_merge_size
        grid = torch.tensor([[1, 3 * merge, 5 * merge], [1, 4 * merge, 2 * merge]])
        channels = getattr(vision, "in_channels", 3) * vision.temporal_patch_size * vision.patch_size ** 2
        pixels = torch.randn(int(grid.prod(1).sum()), channels, dtype=model.dtype)
        layers = getattr(vision, "deepstack_visual_indexes", [])
        deeper = [f"deepstack_features_{index}" for index in range(len(layers))]
        outputs = ["image_features", *deeper]
        if deeper:
            # In the graph they are as long as the tokens, with zeros for those of no image.
            text._deepstack_process = lambda hidden, _, features: hidden + features
        return [Graph("vision_encoder", Vision(model.model.visual), {"pixel_values": pixels, "image_grid_thw": grid},
                      outputs, {"pixel_values": {0: "num_patches"}, "image_grid_thw": {0: "num_images"},
                                **{name: {0: "num_tokens"} for name in outputs}}),
                *decoder_graphs(model, text, self.masks(model), position_rows=3, deeper=deeper)]

    def masks(self, model):
        return Masks(model.config.text_config)

    def cases(self, seed):
        return [*super().cases(seed), Case([4], "Describe the lungs.")]

    def encode(self, processor, case, images):
        messages = self.messages(case)
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        inputs = processor(text=text, images=images, **case.processor)
        return inputs, {"messages": messages, "prompt_template": text,
                        "prompt": processor.decode(inputs["input_ids"][0])}

    def positions(self, model, inputs):
        found, _ = model.model.get_rope_index(inputs["input_ids"], image_grid_thw=inputs["image_grid_thw"],
                                              attention_mask=inputs["attention_mask"],
                                              mm_token_type_ids=inputs["mm_token_type_ids"])
        return found

    def extra(self, model, inputs, case):
        positions = self.positions(model, inputs)
        return {**super().extra(model, inputs, case), "image_grid_thw": inputs["image_grid_thw"].tolist(),
                "rope_delta": int(positions.max()) + 1 - inputs["input_ids"].shape[1],
                "position_ids": positions.tolist()}

    def vision_config(self, seed, hidden):
        patch, merge = choice(seed, 7, 8, 6), choice(seed, 2, 2, 3)
        return dict(depth=choice(seed, 3, 4, 2), hidden_size=choice(seed, 32, 48, 24), intermediate_size=56,
                    num_heads=choice(seed, 2, 4, 2), patch_size=patch, spatial_merge_size=merge, temporal_patch_size=2,
                    window_size=patch * merge * choice(seed, 2, 3, 2),
                    fullatt_block_indexes=choice(seed, [1], [0, 3], [1]),
                    out_hidden_size=hidden, tokens_per_second=2)

    def text_config(self, size):
        """What the family's language model has besides; `size` is that of a head."""
        return {}

    def tiny(self, seed, folder):
        specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
                    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
        tokenizer = byte_level_tokenizer(specials, choice(seed, 420, 470, 520), SPLIT)
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
        fast.chat_template = self.template
        heads, kv, size, section = choice(seed, (4, 2, 16, [2, 3, 3]), (6, 2, 12, [2, 2, 2]), (3, 1, 20, [4, 3, 3]))
        hidden = heads * size
        text = dict(vocab_size=len(fast), hidden_size=hidden, intermediate_size=72, max_position_embeddings=2048,
                    num_hidden_layers=choice(seed, 2, 3, 2), num_attention_heads=heads, num_key_value_heads=kv,
                    rope_parameters={"rope_type": "default", "mrope_section": section,
                                     "rope_theta": choice(seed, 1e6, 1e4, 5e5)},
                    bos_token_id=0, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False) | self.text_config(size)
        vision = self.vision_config(seed, hidden)
        config = self.model_class.config_class(
            text_config=text, vision_config=vision, image_token_id=6, video_token_id=7, vision_start_token_id=3,
            vision_end_token_id=4, tie_word_embeddings=False)
        model = randomise(self.model_class(config), seed)
        model.generation_config = transformers.GenerationConfig(
            bos_token_id=0, eos_token_id=[2, 0], pad_token_id=0, repetition_penalty=choice(seed, 1.05, 1.0, 1.2))
        model.save_pretrained(folder)
        fast.save_pretrained(folder)
        side = vision["patch_size"] * vision["spatial_merge_size"]
        images = {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True,
                  "image_processor_type": "Qwen2VLImageProcessor", "merge_size": vision["spatial_merge_size"],
                  "patch_size": vision["patch_size"], "resample": 3, "rescale_factor": 1 / 255,
                  "temporal_patch_size": 2}
        # Published folders have either form.
        limits = choice(seed, {"min_pixels": 4 * side * side, "max_pixels": 60 * side * side},
                        {"size": {"shortest_edge": 6 * side * side, "longest_edge": 48 * side * side}})
        write_json(folder / "preprocessor_config.json", images | self.levels | limits)


class Qwen2VL(Qwen25VL):
    name = "qwen2_vl"
    model_class = transformers.Qwen2VLForConditionalGeneration

    def vision_config(self, seed, hidden):
        patch, merge = choice(seed, 7, 8, 6), choice(seed, 2, 2, 3)
        return dict(depth=choice(seed, 2, 3, 2), embed_dim=choice(seed, 24, 32, 48), hidden_size=hidden, mlp_ratio=2,
                    num_heads=choice(seed, 2, 4, 3), patch_size=patch, spatial_merge_size=merge, temporal_patch_size=2,
                    in_channels=3)


class Qwen3VL(Qwen25VL):
    name = "qwen3_vl"
    model_class = transformers.Qwen3VLForConditionalGeneration
    template = PLAIN_TEMPLATE
    levels = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}

    def masks(self, model):
        return CausalMask()

    def text_config(self, size):
        return {"head_dim": size}

    def vision_config(self, seed, hidden):
        patch, merge = choice(seed, 7, 8, 6), choice(seed, 2, 2, 3)
        return dict(depth=choice(seed, 3, 4, 2), hidden_size=choice(seed, 32, 48, 24), intermediate_size=56,
                    num_heads=choice(seed, 2, 4, 2), patch_size=patch, spatial_merge_size=merge, temporal_patch_size=2,
                    in_channels=3, num_position_embeddings=choice(seed, 36, 64, 25),
                    deepstack_visual_indexes=choice(seed, [0, 1], [1, 3], [0]), out_hidden_size=hidden)
