"""Explains why a learner refuses this actor, as far as libzmq's events show."""

import time
import uuid

import zmq
from zmq.utils.monitor import parse_monitor_message

from common.errors import SetupError

PATIENCE_S = 5.0
"""A learner that dies during a handshake looks the same as a wrong key; only a wrong key fails for this long."""

_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


class Handshakes:
    """Watches a connecting socket.

    Args:
      socket: not yet connected.
      endpoint: what it will connect to.
      key: the public key that it shows; empty if it has none.
    """

    def __init__(self, socket: "zmq.Socket[bytes]", endpoint: str, key: str) -> None:
        self._socket, self._endpoint, self._key = socket, endpoint, key
        self._failing_since: float | None = None
        address = f"inproc://handshakes-{uuid.uuid4().hex}"
        socket.monitor(address, _FAILURES | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._events: zmq.Socket[bytes] = socket.context.socket(zmq.PAIR)
        self._events.setsockopt(zmq.LINGER, 0)
        self._events.connect(address)

    def check(self) -> None:
        """Handles the events since the last call.

        Raises:
          SetupError: if the learner refused this actor, or is not the one that its key belongs to.
        """
        while self._events.poll(0):
            event = parse_monitor_message(self._events.recv_multipart())["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._failing_since = None
            elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                raise SetupError(
                    f"the learner at {self._endpoint} does not admit this actor's key {self._key}: "
                    "add it to the learner's authorized_keys"
                )
            else:
                self._failed(event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)

    def withdrawal(self) -> SetupError:
        """Returns the error of an actor that is no longer admitted."""
        return SetupError(
            f"the learner at {self._endpoint} no longer admits this actor's key {self._key}: "
            "it was withdrawn while this actor was connected"
        )

    def close(self) -> None:
        """Stops watching."""
        self._socket.disable_monitor()
        self._events.close()

    def _failed(self, final: bool) -> None:
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if not final and now - self._failing_since < PATIENCE_S:
            return
        if self._key:
            raise SetupError(
                f"no secure connection to the learner at {self._endpoint}: its key is not the one in learner.public, "
                "or it has none; copy the run's key files again"
            )
        raise SetupError(
            f"the learner at {self._endpoint} only admits actors with keys: name this actor's folder with --keys, or "
            "set BIDIST_KEYS"
        )
