#!/usr/bin/env python3
"""Writes the twelve sample studies: DICOM radiographs of phantoms, and their truth as JSON. Always the same bytes.

    python3 models/phantom-cxr/train/samples.py            # into models/phantom-cxr/samples
    python3 models/phantom-cxr/train/samples.py --check    # read them with the model in models/phantom-cxr
"""
from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian,
                         ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless)

import phantom

HERE = Path(__file__).resolve().parent


def n(side=None, zone=None, size=None):
    return dict(finding="nodule", side=side, zone=zone, size=size)


def eff(side, size):
    return dict(finding="pleural_effusion", side=side, size=size)


def one(finding, side=None, zone=None):
    return dict(finding=finding, side=side, zone=zone)


# slug, class, photometric, (rows, columns), transfer syntax, VOI, findings
SAMPLES = [
    ("normal", "DX", 2, (512, 512), ExplicitVRLittleEndian, "window", []),
    ("nodule-small", "DX", 2, (512, 512), ExplicitVRLittleEndian, "window", [n("right", "upper", "small")]),
    ("nodule-large", "CR", 1, (480, 448), ExplicitVRLittleEndian, "window", [n("left", "lower", "large")]),
    ("consolidation", "CR", 2, (448, 448), ImplicitVRLittleEndian, "window", [one("consolidation", "right", "mid")]),
    ("effusion-moderate", "DX", 2, (512, 512), JPEG2000Lossless, "window", [eff("left", "moderate")]),
    ("pneumothorax", "DX", 1, (512, 448), ExplicitVRLittleEndian, "window", [one("pneumothorax", "right")]),
    ("heart-effusions", "CR", 2, (448, 480), ExplicitVRLittleEndian, "lut",
     [one("cardiomegaly"), eff("left", "small"), eff("right", "small")]),
    ("tube-and-line", "DX", 2, (448, 448), RLELossless, "window",
     [one("endotracheal_tube"), one("central_line", "right")]),
    ("pacemaker", "CR", 2, (480, 480), ExplicitVRLittleEndian, "window",
     [one("pacemaker", "left"), one("cardiomegaly")]),
    ("japanese-name", "DX", 2, (448, 448), ExplicitVRLittleEndian, "window",
     [n("left", "mid", "small"), one("pneumothorax", "right")]),
    ("accented-name", "CR", 1, (448, 448), ExplicitVRLittleEndian, "window",
     [eff("right", "large"), one("central_line", "left")]),
    ("four-findings", "DX", 2, (448, 512), ExplicitVRLittleEndian, "window",
     [n("right", "lower", "large"), one("consolidation", "left", "upper"), one("endotracheal_tube"),
      one("pacemaker", "right")]),
]
NAMES = ["ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "TEN", "ELEVEN", "TWELVE"]
FIRST_SEED = 12_000_000


def uid(*parts) -> str:
    """A fixed UID under 2.25 from the sample's own name."""
    return "2.25." + str(int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:15], "big"))


def code(value, scheme, meaning) -> Dataset:
    d = Dataset()
    d.CodeValue, d.CodingSchemeDesignator, d.CodeMeaning = value, scheme, meaning
    return d


def build(i: int):
    slug, kind, mono, (rows, cols), syntax, voi, want = SAMPLES[i]
    dx = kind == "DX"
    plan = None
    for seed in range(FIRST_SEED + 100 * i, FIRST_SEED + 100 * i + 100):
        plan = phantom.plan(seed, [dict(w) for w in want])
        if len(plan.findings) == len(want):
            break
    img = phantom.render(plan, rows, cols)
    stored = np.round(180 + 3600 * img.astype(np.float64)).astype(np.uint16)
    center, width = 1980, 3600
    if mono == 1:
        stored, center = 4095 - stored, 4095 - center

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    sop = DigitalXRayImageStorageForPresentation if dx else ComputedRadiographyImageStorage
    ds.SpecificCharacterSet = {3: "ISO_IR 192", 9: ["", "ISO 2022 IR 87"]}.get(i, "ISO_IR 100")
    ds.ImageType = ["DERIVED", "PRIMARY", ""] if dx else ["DERIVED", "PRIMARY"]
    ds.SOPClassUID, ds.SOPInstanceUID = sop, uid(slug, "instance")
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20261122"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = f"{8 + i:02d}1500"
    ds.AccessionNumber = f"PHANTOM{i + 1:04d}"
    ds.Modality = kind
    if dx:
        ds.PresentationIntentType = "FOR PRESENTATION"
    ds.Manufacturer, ds.ManufacturerModelName = "Phantom Works", "Procedural radiograph"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "0", "phantom 1"
    ds.InstitutionName = "Phantom Hospital"
    ds.ReferringPhysicianName = "PHANTOM^REFERRER"
    ds.StudyDescription, ds.SeriesDescription = "Chest radiograph of a phantom", "Synthetic frontal chest"
    ds.DerivationDescription = "Drawn by a program; no patient"
    ds.PatientName = {9: "Phantom^Tarou=幻影^太郎=げんえい^たろう", 10: "Phántom^Zoë"}.get(i, f"PHANTOM^{NAMES[i]}")
    ds.PatientID = f"PHANTOM-{i + 1:02d}"
    ds.PatientBirthDate = f"19{40 + 4 * i:02d}0101"
    ds.PatientSex = "FM"[i % 2]
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(slug, "study"), uid(slug, "series")
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = f"{i + 1}", 1, 1, 1
    ds.BodyPartExamined = "CHEST"
    ds.ViewPosition = "AP" if any(f.finding == "endotracheal_tube" for f in plan.findings) else "PA"
    ds.PatientOrientation = ["L", "F"]
    spacing = round(400 / max(rows, cols), 4)
    ds.ImagerPixelSpacing = [spacing, spacing]
    if dx:
        ds.DetectorType = "DIRECT"
        ds.PixelIntensityRelationship = "LOG"
        ds.PixelIntensityRelationshipSign = 1 if mono == 1 else -1
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
        ds.PresentationLUTShape = "INVERSE" if mono == 1 else "IDENTITY"
        ds.ImageLaterality = "U"
        ds.AcquisitionContextSequence = Sequence([])
        ds.AnatomicRegionSequence = Sequence([code("51185008", "SCT", "Chest")])
        view = code("399348003", "SCT", "antero-posterior") if ds.ViewPosition == "AP" else \
            code("399148001", "SCT", "postero-anterior")
        view.ViewModifierCodeSequence = Sequence([])
        ds.ViewCodeSequence = Sequence([view])
        ds.LossyImageCompression = "00"
        ds.PositionerType = "NONE"
    else:
        ds.KVP, ds.PlateID = "120", None
    ds.BurnedInAnnotation = "NO"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, f"MONOCHROME{mono}"
    ds.Rows, ds.Columns = rows, cols
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    if voi == "window":
        ds.WindowCenter, ds.WindowWidth, ds.WindowCenterWidthExplanation = str(center), str(width), "NORMAL"
    else:
        lut = Dataset()
        at = np.clip((np.arange(4096) - 180) / 3600, 0, 1)
        lut.add_new(0x00283002, "US", [4096, 0, 16])
        lut.LUTExplanation = "NORMAL"
        lut.add_new(0x00283006, "OW", np.round(at * 65535).astype("<u2").tobytes())
        ds.VOILUTSequence = Sequence([lut])
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = sop, ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_compressed else syntax
    ds.file_meta.ImplementationClassUID = uid("phantom-cxr", "implementation")
    ds.file_meta.ImplementationVersionName = "PHANTOM_CXR_1"
    ds.set_pixel_data(stored, f"MONOCHROME{mono}", 12, generate_instance_uid=False)
    ds["PixelData"].VR = "OW"
    if syntax.is_compressed:
        ds.compress(syntax, generate_instance_uid=False)
    truth = {
        "report": plan.report,
        "findings": [dict(finding=f.finding, side=f.side, zone=f.zone, size=f.size, sentence=f.sentence(),
                          box=[round(f.box[0] * cols, 1), round(f.box[1] * rows, 1), round(f.box[2] * cols, 1),
                               round(f.box[3] * rows, 1)]) for f in plan.findings],
        "study_instance_uid": ds.StudyInstanceUID, "series_instance_uid": ds.SeriesInstanceUID,
        "sop_instance_uid": ds.SOPInstanceUID, "sop_class_uid": str(sop), "accession_number": ds.AccessionNumber,
        "patient_name": str(ds.PatientName), "patient_id": ds.PatientID, "modality": kind,
        "photometric_interpretation": f"MONOCHROME{mono}", "transfer_syntax_uid": str(syntax),
        "rows": rows, "columns": cols, "voi": voi, "view_position": ds.ViewPosition, "phantom_seed": plan.seed,
    }
    return f"{i + 1:02d}-{slug}", ds, truth


def display(ds) -> np.ndarray:
    """DICOM pixels -> window or VOI LUT -> 8 bits, bright where dense."""
    px = ds.pixel_array.astype(np.float64)
    if "VOILUTSequence" in ds:
        item = ds.VOILUTSequence[0]
        count, first, bits = item.LUTDescriptor
        lut = np.frombuffer(item["LUTData"].value, "<u2") if isinstance(item["LUTData"].value, bytes) \
            else np.array(item["LUTData"].value)
        y = lut[np.clip(px.astype(int) - first, 0, len(lut) - 1)] / (2 ** bits - 1)
    else:
        y = np.clip((px - (float(ds.WindowCenter) - 0.5)) / (float(ds.WindowWidth) - 1) + 0.5, 0, 1)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        y = 1 - y
    return np.floor(y * 255 + 0.5).astype(np.uint8)


def check(folder: Path, model: Path) -> int:
    import evaluate
    reader = evaluate.Reader(model)
    right = 0
    for f in sorted(folder.glob("*.dcm")):
        truth = json.loads(f.with_suffix(".json").read_text(encoding="utf-8"))
        ds = pydicom.dcmread(f)
        u8 = np.asarray(Image.fromarray(display(ds)).resize((256, 256), Image.BILINEAR))
        text, sentences, _ = reader.read(u8)
        box = {x["sentence"]: [v / d for v, d in zip(x["box"], [ds.Columns, ds.Rows] * 2)] for x in truth["findings"]}
        hits = [evaluate.hit(h, box[s]) for s, h in sentences if s in box]
        right += text == truth["report"]
        print("ok   " if text == truth["report"] else "WRONG", f.stem, "|", text,
              "" if text == truth["report"] else f"| truth: {truth['report']}", "| attention in box:", sum(hits), "of",
              len(hits))
    print(f"{right} of {len(list(folder.glob('*.dcm')))} right")
    return right


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", type=Path, default=HERE.parent / "samples")
    ap.add_argument("--model", type=Path, default=HERE.parent)
    ap.add_argument("--check", action="store_true")
    args = ap.parse_args()
    if args.check:
        raise SystemExit(0 if check(args.out, args.model) >= 11 else 1)
    args.out.mkdir(parents=True, exist_ok=True)
    for i in range(len(SAMPLES)):
        name, ds, truth = build(i)
        ds.save_as(args.out / f"{name}.dcm", enforce_file_format=True)
        (args.out / f"{name}.json").write_text(json.dumps(truth, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(name, "|", truth["report"])


if __name__ == "__main__":
    main()
