"""python -m export FAMILY --from NAME_OR_FOLDER --out DIR, or --tiny SEED in place of --from."""
from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
import transformers

from .expected import expect
from .export import export_model, folder_of
from .families import MODULES, family
from .graphs import SINGLE_FILE_BYTES
from .quantize import SUFFIX
from .reference import Model


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    parser.add_argument("family", choices=sorted(MODULES))
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--from", dest="source", metavar="NAME_OR_FOLDER",
                        help="a name on the Hugging Face hub, or a folder that holds its files")
    parser.add_argument("--revision", help="commit of the repository on the hub; its newest when absent")
    source.add_argument("--tiny", type=int, metavar="SEED", help="a random tiny model of the class instead")
    parser.add_argument("--out", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--dtype", nargs="+", choices=sorted(SUFFIX), default=["fp32"])
    parser.add_argument("--expected", action="store_true",
                        help="also write expected.json: what Transformers answers to pictures made for it")
    parser.add_argument("--single-file-bytes", type=int, default=SINGLE_FILE_BYTES,
                        help="with more bytes of weights than this, they go to FILE.onnx_data")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    chosen = family(arguments.family)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.tiny is None:
            checkpoint, seed = folder_of(arguments.source, arguments.revision), 0
        else:
            checkpoint, seed = Path(folder), arguments.tiny
            chosen.tiny(seed, checkpoint)
        export_model(chosen, checkpoint, arguments.out, arguments.dtype, arguments.single_file_bytes)
        if arguments.expected:
            graphs = Model(arguments.out / chosen.graph_folder).interface() if "fp32" in arguments.dtype else {}
            expect(chosen, chosen.load(str(checkpoint)), chosen.processor(str(checkpoint)), seed, arguments.out, graphs)


if __name__ == "__main__":
    main()
