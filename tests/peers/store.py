"""pynetdicom as a sender: C-ECHO, then one C-STORE for each file, each in the transfer syntax it has.

    store.py HOST PORT CALLED_AE CALLING_AE FILE...

Prints {"echo": STATUS, "store": [STATUS, ...]}; the status is null where the receiver refuses the SOP class or the
transfer syntax.
"""
import json
import sys

from pydicom import dcmread
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification

from pausing import pause

host, port, called, calling, *files = sys.argv[1:]
sets = [dcmread(file) for file in files]
ae = AE(ae_title=calling)
ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
# A context for each pair: of several transfer syntaxes in one context the acceptor chooses only one.
pairs = {(s.SOPClassUID, s.file_meta.TransferSyntaxUID) for s in sets}
contexts = [build_context(Verification)] + [build_context(*pair) for pair in sorted(pairs)]
association = ae.associate(host, int(port), ae_title=called, contexts=contexts)
if not association.is_established:
    sys.exit("the association was not accepted")
accepted = {(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts}
store = []
for data_set, pair in zip(sets, [(s.SOPClassUID, s.file_meta.TransferSyntaxUID) for s in sets]):
    pause(association)
    store.append(association.send_c_store(data_set).get("Status") if pair in accepted else None)
pause(association)
echo = association.send_c_echo().Status
association.release()
print(json.dumps({"echo": echo, "store": store}))
