"""Who may talk to the learner's port: the answers that libzmq asks for at each handshake (ZeroMQ RFC 27, ZAP).

libzmq checks that a client holds the secret of the key that it shows; whether that key is admitted is answered here.
The key stays attached to every message of the connection, so withdrawing it shuts the client out at once.
"""

import logging
from collections import Counter

import zmq
from zmq.utils import z85

from common.errors import WireError, worth_logging
from common.keys import LearnerKeys

log = logging.getLogger(__name__)

_ADDRESS = "inproc://zeromq.zap.01"  # fixed by the RFC, one per context
_DOMAIN = b"bidist"


class Admission:
    """Guards one socket with an allow-list.

    Args:
      keys: the learner's.
      context: the socket's; no other socket that authenticates may share it.
      refused: counts handshakes that are refused, as `key`.
    """

    def __init__(self, keys: LearnerKeys, context: "zmq.Context[zmq.Socket[bytes]]", refused: Counter[str]) -> None:
        self._keys, self._refused = keys, refused
        self.handler: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self.handler.setsockopt(zmq.LINGER, 0)
        self.handler.bind(_ADDRESS)

    def guard(self, socket: "zmq.Socket[bytes]") -> None:
        """Makes a socket refuse whoever is not admitted; call it before the socket is bound."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.own.secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without a handler, nobody is admitted

    def answer(self) -> None:
        """Answers every handshake that waits."""
        while self.handler.poll(0):
            route, empty, version, request, _, address, _, mechanism, *credentials = self.handler.recv_multipart()
            key = z85.encode(credentials[0]) if mechanism == b"CURVE" and len(credentials) == 1 else b""
            admitted = self._keys.allowed.name(key) is not None
            if not admitted and worth_logging(self._refused, "key"):
                log.warning(
                    "refused an actor at %s: its key %s is not in authorized_keys", address.decode(), key.decode()
                )
            status, text = (b"200", b"OK") if admitted else (b"400", b"this key is not admitted")
            self.handler.send_multipart([route, empty, version, request, status, text, key if admitted else b"", b""])

    def check(self, frame: zmq.Frame) -> None:
        """Checks that the sender of a message is still admitted.

        Raises:
          WireError: with reason `revoked`.
        """
        try:
            key = str(frame.get("User-Id"))
        except zmq.ZMQError:
            key = ""
        if self._keys.allowed.name(key.encode()) is None:
            raise WireError("revoked", f"the key {key} is no longer in authorized_keys")

    def close(self) -> None:
        """Stops answering."""
        self.handler.close()
