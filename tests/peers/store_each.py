"""pynetdicom as a sender of files that may be anything: each in the transfer syntax it has, over one association.

    store_each.py HOST PORT CALLED_AE FILE...

Prints a list with an entry for each file: what came of it, and how often it was sent. What came of it is the status of
its C-STORE, or, where pydicom cannot read it or pynetdicom does not send it, the reason as text. A file whose response
pynetdicom loses is sent again.
"""
import json
import sys
import warnings

from pydicom import dcmread
from pynetdicom import AE, build_context

from pausing import pause

host, port, called, *files = sys.argv[1:]
warnings.simplefilter("ignore")


def read(file):
    """The data set, or why there is none to send."""
    try:
        data_set = dcmread(file)
        data_set.SOPInstanceUID
        return data_set, (data_set.SOPClassUID, data_set.file_meta.TransferSyntaxUID)
    except Exception as error:
        return None, f"not read: {type(error).__name__}: {error}"


sets = [read(file) for file in files]
ae = AE(ae_title="PYNETDICOM")
ae.acse_timeout = ae.network_timeout = 30
ae.dimse_timeout = 10
# A context for each pair: of several transfer syntaxes in one context the acceptor chooses only one.
contexts = [build_context(*pair) for pair in sorted({pair for data_set, pair in sets if data_set is not None})]


def associate():
    association = ae.associate(host, int(port), ae_title=called, contexts=contexts)
    if not association.is_established:
        sys.exit("the association was not accepted")
    return association


def send(data_set):
    """The status, a reason, or nothing when no response was seen."""
    pause(association)
    try:
        return association.send_c_store(data_set).get("Status")
    except Exception as error:
        association._reactor_checkpoint.set()
        return f"not sent: {type(error).__name__}: {error}"


association = associate()
outcomes = []
for data_set, why in sets:
    outcome, times = (why, 0) if data_set is None else (None, 0)
    while outcome is None and times < 3:
        if not association.is_established:
            association = associate()
        outcome, times = send(data_set), times + 1
    outcomes.append(["no response" if outcome is None else outcome, times])
association.release()
print(json.dumps(outcomes))
