"""pydicom as a reader: the attributes of patient and study that a report takes over from its source.

    attributes.py FILE...

Prints a list with an object for each file: for each keyword its bytes as hexadecimal digits, and its value as text
in the file's own character set; null where the attribute is absent.
"""
import json
import sys

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword

KEYWORDS = [
    "SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
    "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription",
]


def attribute(file, keyword):
    tag = tag_for_keyword(keyword)
    raw = dcmread(file, stop_before_pixels=True).get_item(tag)
    if raw is None:
        return None
    # Read anew: once its text was asked for, pydicom no longer has an element's bytes.
    value = dcmread(file, stop_before_pixels=True)[tag].value
    data = raw.value if isinstance(raw.value, bytes) else str(raw.value or "").encode("ascii")
    return {"bytes": data.rstrip(b" \0").hex(), "text": "" if value is None else str(value).rstrip()}


print(json.dumps([{k: attribute(f, k) for k in KEYWORDS} for f in sys.argv[1:]]))
