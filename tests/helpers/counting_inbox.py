"""An inbox that tells a test when everything sent to it has been handled."""

import zmq

from common.inbox import Inbox


class CountingInbox(Inbox):
    """Counts the messages that it has handled, valid or not."""

    handled = 0

    def _take(self, incarnation: str, frames: list[zmq.Frame]) -> str:
        self.handled += 1
        return super()._take(incarnation, frames)
