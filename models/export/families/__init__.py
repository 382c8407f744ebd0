"""The families by name."""
from importlib import import_module

MODULES = {"gemma3": "gemma3.Gemma3", "paligemma": "paligemma.PaliGemma", "qwen2_5_vl": "qwen_vl.Qwen25VL",
           "qwen2_vl": "qwen_vl.Qwen2VL", "qwen3_vl": "qwen_vl.Qwen3VL",
           "idefics3": "idefics3.Idefics3", "smolvlm": "idefics3.SmolVLM",
           "llava": "llava.Llava", "llava_onevision": "llava.LlavaOnevision",
           "florence2": "florence2.Florence2",
           "vision_encoder_decoder": "vision_encoder_decoder.VisionEncoderDecoder",
           "siglip": "zero_shot.Siglip"}


def family(name: str):
    """The family of a name."""
    module, kind = MODULES[name].split(".")
    return getattr(import_module(f".{module}", __name__), kind)()
