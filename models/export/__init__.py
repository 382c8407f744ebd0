"""Exports vision-language models of the Hugging Face ecosystem to the ONNX layouts that `preread` runs."""
