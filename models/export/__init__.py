"""Exports vision-language models of the Hugging Face ecosystem to the ONNX layouts that `preread` runs."""

import os

# ONNX Runtime reports to its maker unless this is set before it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
