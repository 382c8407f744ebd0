"""What other decoders take: the other half of `cargo xtask bench pixels`.

decode.py frames FILE REPEATS PLUGIN  prints the median milliseconds of one frame through pydicom and one of its plugins
decode.py tensors PROCESSES FILE...   prints the seconds from files on disk to arrays for a model
decode.py repeat FILE COUNT OUT       writes the file's first frame COUNT times, as an instance of so many frames
decode.py versions                    prints what is installed
"""

import importlib.metadata
import multiprocessing
import statistics
import sys
import time
import warnings

import numpy
import pydicom
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder

warnings.simplefilter("ignore")


def frames(file, repeats, plugin):
    dataset = pydicom.dcmread(file)
    dataset.PixelData  # read, not deferred
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder = get_decoder(syntax)
    options = {"raw": True, "index": 0}
    if syntax.is_encapsulated:
        options["decoding_plugin"] = plugin
    else:
        # A copy, as any decoder makes one.
        options["view_only"] = False
    times = []
    for _ in range(max(1, int(repeats))):
        begin = time.perf_counter()
        decoder.as_array(dataset, **options)
        times.append((time.perf_counter() - begin) * 1000)
    print(statistics.median(times))


def tensor(file):
    dataset = pydicom.dcmread(file)
    values = dataset.pixel_array.astype(numpy.float32)
    values = values * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    levels = numpy.clip((values - 39.5) / 399 + 0.5, 0, 1) * 2 - 1
    return numpy.repeat(levels[None], 3, axis=0).shape


def tensors(processes, files):
    # The processes are there before the clock starts: a service would keep them.
    with multiprocessing.Pool(int(processes)) as pool:
        pool.map(abs, range(int(processes)))
        begin = time.perf_counter()
        pool.map(tensor, files, chunksize=4)
        print(time.perf_counter() - begin)


def repeat(file, count, out):
    dataset = pydicom.dcmread(file)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1)))
    dataset.NumberOfFrames = int(count)
    dataset.PixelData = encapsulate([frame] * int(count))
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(out)


def versions():
    names = ["pydicom", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "pyjpegls", "python-gdcm"]
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["frames", file, repeats, plugin]:
            frames(file, repeats, plugin)
        case ["tensors", processes, *files]:
            tensors(processes, files)
        case ["repeat", file, count, out]:
            repeat(file, count, out)
        case ["versions"]:
            versions()
        case _:
            sys.exit(__doc__)
