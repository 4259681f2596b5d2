"""The lean client: an `HttpRequest` on the wire of one connection of the pool."""

import asyncio
from contextlib import suppress
from functools import lru_cache, partial

import aiohttp
from aiohttp import ClientRequest
from yarl import URL

from ..config.schema import ProviderConfig
from ..core.errors import (
    LLMProxyError,
)
from ..core.exchange import HttpRequest, Upload
from .base import LOST, WIRE_ERRORS, Answer, ours
from .lean import LAST_CHUNK, Wire, chunk, message, start
from .pool import Pool


class LeanUpstream:
    """Sends over the provider's session, which it closes; all its requests have one origin."""

    def __init__(
        self, provider: str, config: ProviderConfig, session: aiohttp.ClientSession
    ) -> None:
        assert isinstance(session.connector, Pool)
        self._provider = provider
        self._session = session
        self._pool = session.connector
        self._proxy = URL(config.proxy) if config.proxy is not None else None
        self._origin: ClientRequest | None = None
        self._start = lru_cache(maxsize=64)(partial(start, proxied=self._proxy is not None))

    async def send(self, request: HttpRequest, connect: float | None = None) -> Answer:
        """
        Send, and wait for the answer's head.

        A kept connection that the provider closed while it was idle is nobody's failure: the
        request is repeated at once and once, on a new connection, if not a byte had come for it
        (aiohttp itself repeats only idempotent methods). What may be sent once gets a new one.
        """
        said, body = message(self._start(request.method, request.url), request)
        wire = None if request.once else self._pool.take()
        asked = False
        try:
            while True:
                kept = wire is not None
                if wire is None:
                    wire = await self._pool.lease(self._where(request), connect)
                asked = True
                answer = wire.ask(
                    said,
                    body,
                    half=request.upload is not None,
                    bodiless=request.method == "HEAD",
                    packed=request.packed,
                )
                if request.upload is not None:
                    rest = _rest(wire, request.upload, chunked=request.size is None)
                    answer.telling = asyncio.get_running_loop().create_task(rest)
                try:
                    await answer.opened
                except LOST:
                    answer.close()
                    if not kept or wire.heard:
                        raise
                    wire = None
                except BaseException:
                    answer.close()
                    raise
                else:
                    return answer
        except WIRE_ERRORS as error:
            failure = ours(self._provider, error)
            if asked and request.once:
                failure.retryable = failure.fails_over = False
            raise failure from error

    async def upgrade(self, request: HttpRequest) -> aiohttp.ClientResponse:
        try:
            return await self._session.request(
                request.method,
                URL(request.url, encoded=True),
                headers=request.fields,
                proxy=self._proxy,
                allow_redirects=False,
                read_until_eof=False,
            )
        except WIRE_ERRORS as error:
            raise ours(self._provider, error) from error

    async def close(self) -> None:
        """Close the session, and with it all connections."""
        await self._session.close()

    def _where(self, request: HttpRequest) -> ClientRequest:
        """Tell the connector where to."""
        if self._origin is None:
            origin = URL(request.url, encoded=True).origin()
            self._origin = ClientRequest("POST", origin, proxy=self._proxy)
        return self._origin


async def _rest(wire: Wire, upload: Upload, *, chunked: bool) -> None:
    """Send the rest of a request as it comes, no faster than the provider takes it."""
    with suppress(LLMProxyError, *WIRE_ERRORS):  # whoever waits for the answer hears of either
        while data := await upload.read():
            await wire.tell(chunk(data) if chunked else data)
        await wire.tell(LAST_CHUNK if chunked else b"", last=True)
