"""pynetdicom as the user of storage commitment that results are brought to: on new associations, until it is killed.

    commitment_listen.py PORT AE_TITLE

Prints "listening", and a line of JSON for each result (see commitment_request.py). As the standard asks, it takes the
provider's role from who requests the association only when that is proposed.
"""
import json
import sys
import threading

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from commitment_event import described

port, title = sys.argv[1:]


def reported(event):
    print(json.dumps(described(event) | {"from": event.assoc.requestor.ae_title}), flush=True)
    return 0x0000, None


ae = AE(ae_title=title)
ae.require_called_aet = True
# Of the two roles the requestor may only be provider here, which we then are user for.
syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
ae.add_supported_context(StorageCommitmentPushModel, syntaxes, scu_role=False, scp_role=True)
server = ae.start_server(
    ("127.0.0.1", int(port)), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reported)]
)
print("listening", flush=True)
threading.Event().wait()
