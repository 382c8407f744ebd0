"""Silent connections to a TLS port from many addresses of this machine, and among them pynetdicom with a certificate.

    crowd.py PORT CALLED_AE CALLING_AE KEY CERTIFICATE CA ADDRESSES OF_EACH

From each of 127.0.0.2, 127.0.0.3, ... come OF_EACH connections that say nothing and stay; then from 127.0.1.1 an association
over TLS with C-ECHO. Prints {"echo": [STATUS, ...], "open": N}: the status after each address, null where there was no
association, and how many of the silent connections are open at the end.
"""
import json
import select
import socket
import ssl
import sys

from pynetdicom import AE
from pynetdicom.sop_class import Verification

from pausing import pause

port, called, calling, key, certificate, ca, addresses, of_each = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.check_hostname = False
context.load_cert_chain(certificate, key)


def echo():
    ae = AE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = 20
    ae.add_requested_context(Verification)
    association = ae.associate(
        "127.0.0.1", int(port), ae_title=called, bind_address=("127.0.1.1", 0), tls_args=(context, "localhost")
    )
    if not association.is_established:
        return None
    pause(association)
    status = association.send_c_echo().get("Status")
    association.release()
    return status


silent, answers = [], []
for host in range(2, 2 + int(addresses)):
    for _ in range(int(of_each)):
        connection = socket.create_connection(("127.0.0.1", int(port)), 10, (f"127.0.0.{host}", 0))
        silent.append(connection)
    answers.append(echo())
poll = select.poll()
for connection in silent:
    poll.register(connection, select.POLLIN | select.POLLHUP)
print(json.dumps({"echo": answers, "open": len(silent) - len(poll.poll(500))}))
