"""pynetdicom as a sender: C-ECHO, then one C-STORE for each file, each in the transfer syntax it has.

    store.py HOST PORT CALLED_AE CALLING_AE FILE...

Prints {"echo": STATUS, "store": [STATUS, ...]}.
"""
import json
import sys

from pydicom import dcmread
from pynetdicom import AE
from pynetdicom.sop_class import Verification

host, port, called, calling, *files = sys.argv[1:]
sets = [dcmread(file) for file in files]
ae = AE(ae_title=calling)
ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
ae.add_requested_context(Verification)
for sop_class, syntax in {(s.SOPClassUID, s.file_meta.TransferSyntaxUID) for s in sets}:
    ae.add_requested_context(sop_class, syntax)
association = ae.associate(host, int(port), ae_title=called)
if not association.is_established:
    sys.exit("the association was not accepted")
answer = {"echo": association.send_c_echo().Status, "store": [association.send_c_store(s).Status for s in sets]}
association.release()
print(json.dumps(answer))
