"""
What supervisor and worker tell each other: small messages over a pair of sockets.

A message is one line of JSON. Neither side waits for the other: what does not fit into the
socket's buffer is not sent, which happens to whoever has not read for hundreds of messages.
"""

import socket
from typing import Self

import orjson

from ..core.exchange import Json

AT_ONCE = 64 * 1024


class Channel:
    """One end; the socket is its own, and closes with it."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._half = b""

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Give the two ends of a new one."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    def fileno(self) -> int:
        """Give the descriptor, to wait for."""
        return self._end.fileno()

    def send(self, message: Json) -> bool:
        """Send the message; False where the other end is gone or does not read."""
        line = orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)
        try:
            return self._end.send(line) == len(line)
        except OSError:
            return False

    def receive(self) -> list[Json] | None:
        """Give what has come, which may be nothing; None once the other end is gone."""
        try:
            data = self._end.recv(AT_ONCE)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        *lines, self._half = (self._half + data).split(b"\n")
        return [orjson.loads(line) for line in lines]

    def close(self) -> None:
        """Let go of it: the other end is told by the end of what it reads."""
        self._end.close()
