"""The models that providers say they have, asked at most every five minutes."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from math import inf

import orjson

from ..core.errors import UpstreamError
from ..core.exchange import Clock, HttpRequest
from .base import WIRE_ERRORS, Upstream

logger = logging.getLogger(__name__)

KEPT = 300.0
KEPT_FAILURE = 30.0
PATIENCE = 5.0
LARGEST = 4 * 1024 * 1024


class Catalog:
    """
    Keeps each provider's own list of model ids.

    `requests` gives the request to make at each provider. One request at a time
    is under way at a provider; a provider that does not answer keeps its last list.
    """

    def __init__(
        self,
        requests: Mapping[str, Callable[[], HttpRequest]],
        upstreams: Mapping[str, Upstream],
        clock: Clock,
    ) -> None:
        self._requests = requests
        self._upstreams = upstreams
        self._clock = clock
        self._lists: dict[str, list[str]] = {}
        self._stale_at = dict.fromkeys(requests, -inf)
        self._locks = {name: asyncio.Lock() for name in requests}

    async def models(self, provider: str) -> list[str]:
        """Give the provider's model ids; empty where it does not answer."""
        async with self._locks[provider]:
            if self._clock() >= self._stale_at[provider]:
                await self._refresh(provider)
        return self._lists.get(provider, [])

    async def _refresh(self, provider: str) -> None:
        kept = KEPT
        try:
            async with asyncio.timeout(PATIENCE):
                self._lists[provider] = await self._ask(provider)
        except (UpstreamError, *WIRE_ERRORS, TimeoutError, ValueError) as error:
            kept = KEPT_FAILURE
            reason = (
                f"{type(error).__name__}: {error}"
                if isinstance(error, UpstreamError)
                else "no usable answer"
            )
            logger.info("no list of models from %s (%s)", provider, reason)
        self._stale_at[provider] = self._clock() + kept

    async def _ask(self, provider: str) -> list[str]:
        answer = await self._upstreams[provider].send(self._requests[provider]())
        try:
            body = b""
            while (data := await answer.read()) and len(body) <= LARGEST:
                body += data
        finally:
            answer.close()
        if answer.status != 200:
            raise ValueError(f"status {answer.status}")
        return _ids(orjson.loads(body))


def _ids(body: object) -> list[str]:
    """
    Read the ids in a list of models.

    OpenAI's and Anthropic's are alike, `{"data": [{"id": …}, …]}`; Gemini's is
    `{"models": [{"name": "models/…"}, …]}`.
    """
    for rows_name, name, prefix in (("data", "id", ""), ("models", "name", "models/")):
        rows = body.get(rows_name) if isinstance(body, dict) else None
        if isinstance(rows, list):
            ids = [row.get(name) for row in rows if isinstance(row, dict)]
            return [one.removeprefix(prefix) for one in ids if isinstance(one, str)]
    raise ValueError("no list of models")
