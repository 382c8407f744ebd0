"""pynetdicom as the user of storage commitment: stores files, asks for them to be committed, and may wait for the result.

    commitment_request.py HOST PORT CALLED_AE CALLING_AE TRANSACTION_UID REFERENCES SECONDS FILE...

REFERENCES is a JSON list of pairs of SOP Class and SOP Instance UID. The files are stored on the association of the
request. SECONDS are numbers divided by commas: for each a result is awaited for so long, and then the association released;
with 0 at once, and a result that is faster is not taken. Prints {"store": [STATUS, ...], "action": STATUS, "events": [EVENT, ...]}; an event is
{"type": NUMBER, "transaction": UID, "committed": [[CLASS, INSTANCE], ...], "failed": [[CLASS, INSTANCE, REASON], ...]}.
"""
import json
import queue
import sys

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.dimse_messages import N_EVENT_REPORT_RSP
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from commitment_event import described
from pausing import pause

host, port, called, calling, transaction, references, seconds, *files = sys.argv[1:]
sets = [dcmread(file) for file in files]
events, answered = queue.Queue(), queue.Queue()


def reported(event):
    if seconds == "0":
        return 0x0110, None
    events.put(described(event))
    return 0x0000, None


def sent(event):
    if isinstance(event.message, N_EVENT_REPORT_RSP):
        answered.put(True)


information = Dataset()
information.TransactionUID = transaction
information.ReferencedSOPSequence = []
for class_uid, instance_uid in json.loads(references):
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = class_uid, instance_uid
    information.ReferencedSOPSequence.append(item)

ae = AE(ae_title=calling)
ae.acse_timeout = ae.dimse_timeout = 30
ae.network_timeout = 120
pairs = {(s.SOPClassUID, s.file_meta.TransferSyntaxUID) for s in sets}
contexts = [build_context(StorageCommitmentPushModel, ExplicitVRLittleEndian)]
contexts += [build_context(*pair) for pair in sorted(pairs)]
handlers = [(evt.EVT_N_EVENT_REPORT, reported), (evt.EVT_DIMSE_SENT, sent)]
association = ae.associate(host, int(port), ae_title=called, contexts=contexts, evt_handlers=handlers)
if not association.is_established:
    sys.exit("the association was not accepted")
store = []
for s in sets:
    pause(association)
    store.append(association.send_c_store(s).get("Status"))
pause(association)
status, _ = association.send_n_action(
    information, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
)
came = []
try:
    for wait in map(float, seconds.split(",")):
        if wait > 0 and status.get("Status") == 0:
            came.append(events.get(timeout=wait))
            # A release that overtakes our answer would have the result brought once more.
            answered.get(timeout=wait)
except queue.Empty:
    pass
association.release()
print(json.dumps({"store": store, "action": status.get("Status"), "events": came}))
