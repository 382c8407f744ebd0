"""highdicom and pypdf as readers of our documents.

    report_objects.py FILE...

Prints a list with an object for each file: of a measurement report its groups, each with its tracking identifier and UID,
finding, site, outline (columns and rows) with the image it lies on, and numbers; of a PDF its text, a string for each page.
"""
import json
import sys
from io import BytesIO

import highdicom as hd
from pydicom import dcmread
from pypdf import PdfReader


def group(found, region):
    outline = None
    if region and found.roi is not None:
        image = found.roi.ContentSequence[0].ReferencedSOPSequence[0]
        outline = {
            "type": found.roi.graphic_type.value,
            "points": found.roi.value.tolist(),
            "image": image.ReferencedSOPInstanceUID,
        }
    numbers = [{"name": it.name.value, "value": it.value, "unit": it.unit.value} for it in found.get_measurements()]
    return {
        "tracking": found.tracking_identifier,
        "tracking_uid": found.tracking_uid,
        "finding": found.finding_type and found.finding_type.value,
        "sites": [site.value.value for site in found.finding_sites],
        "outline": outline,
        "numbers": numbers,
    }


def read(file):
    dataset = dcmread(file)
    if "EncapsulatedDocument" in dataset:
        return {"pages": [page.extract_text() for page in PdfReader(BytesIO(dataset.EncapsulatedDocument)).pages]}
    content = hd.sr.srread(file).content
    planar = [group(it, True) for it in content.get_planar_roi_measurement_groups()]
    whole = [group(it, False) for it in content.get_image_measurement_groups()]
    return {"regions": planar, "study": whole}


print(json.dumps([read(file) for file in sys.argv[1:]]))
