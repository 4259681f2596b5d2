"""
What has come on a connection that is lost, and was not read.

Who answers a request before it has come whole, and closes, resets the connection. The next write to
it fails, and for that event loops, asyncio's and uvloop alike, give it up and read no more. But the
answer came before the reset, and the kernel has it until the last descriptor is closed.

Without TLS that is after the protocol has heard of the loss. With TLS it is before: so who sends
much keeps a `spare` descriptor of the connection, to be closed by him. What is read by it is
decrypted by names of asyncio's and uvloop's that are private; where they are gone, nothing is read.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from ssl import SSLWantReadError
from typing import Any

PART = 65536


def spare(transport: asyncio.BaseTransport) -> int | None:
    """Give a second descriptor of the connection, which does not close with the first."""
    try:
        return os.dup(transport.get_extra_info("socket").fileno())
    except OSError:  # no descriptor is left
        return None


def unread(transport: asyncio.BaseTransport, second: int | None) -> Iterator[bytes]:
    """Give what is unread; for a protocol, from within `connection_lost`."""
    with suppress(OSError):  # nothing is left, for now or for good
        if transport.get_extra_info("sslcontext") is None:
            first = transport.get_extra_info("socket").fileno()
            while data := os.read(first, PART):
                yield data
        elif second is not None:
            yield from _decrypted(transport, second)


def _decrypted(transport: asyncio.BaseTransport, second: int) -> Iterator[bytes]:
    tls = transport.get_extra_info("ssl_object")
    protocol: Any = transport.get_extra_info("uvloop.sslproto")
    protocol = protocol or getattr(transport, "_ssl_protocol", None)
    if protocol is None or tls is None:
        return
    while count := os.readv(second, [protocol.get_buffer(PART)]):
        protocol.buffer_updated(count)  # of a connection that is lost, it decrypts nothing itself
        with suppress(SSLWantReadError):
            while data := tls.read(PART):
                yield data
