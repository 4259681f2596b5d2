"""
An answer that is known whole, written at once.

What `web.Response` does for the same (a multidict, a dozen methods, a head serialised header by
header) costs about a tenth of a request. It still answers those who are not on a plain kept-alive
HTTP/1.1 connection.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import HttpVersion11, web
from aiohttp.helpers import rfc822_formatted_time

from ..framing.http_head import fields_of

PIECE: Final = 64 * 1024  # bytes that are written in one go, and that a client has its time for


class _Sent(web.StreamResponse):
    """Stands for an answer that has gone out: aiohttp finds nothing left to do."""

    def __init__(self) -> None:
        """Hold nothing: of a response only what is below is asked for once it has gone out."""

    @property
    def prepared(self) -> bool:
        return True

    @property
    def keep_alive(self) -> bool:
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


SENT: Final = _Sent()


async def send_whole(
    request: web.Request, status: int, headers: Mapping[str, str], body: bytes
) -> web.StreamResponse:
    """
    Write the answer and wait until little of it is left to be sent.

    Raises ConnectionError if the client has left, ValueError for a line break in a header.
    """
    if not request.keep_alive or request.version is not HttpVersion11:
        response = web.Response(status=status, headers=headers, body=body)
        await response.prepare(request)
        await response.write_eof()
        return response
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client left")
    head = (
        f"HTTP/1.1 {status} {PHRASES.get(status, '')}\r\n{fields_of(headers)}"
        f"content-length: {len(body)}\r\ndate: {rfc822_formatted_time()}\r\n\r\n"
    )
    transport.write(head.encode() + body)
    if transport.get_write_buffer_size():
        await request.writer.drain()
    return SENT


def pieces_of(response: web.StreamResponse) -> int:
    """Give how many pieces a response has that is not sent yet, a begun one included."""
    body = response.body if isinstance(response, web.Response) else None
    return 1 + (len(body) // PIECE if isinstance(body, bytes) else 0)


PHRASES: Mapping[int, str] = {status.value: status.phrase for status in HTTPStatus}
