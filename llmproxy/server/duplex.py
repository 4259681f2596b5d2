"""
A realtime session between its two sides: what one says is sent to the other, until one ends it.

Theory of operation. Each direction is a task that takes a message from its source and sends it to
its sink before it takes the next, so that either side slows the other down and nothing piles up.
A close is a message like any other: it is passed on with its code and reason, and so is what the
other side answers to it. The first end is the one that counts:

    a side closes                    its close is passed on; the other's answer, and what it still
                                     says before, go back for ANSWER seconds, else its own code
    a side breaks the protocol       it is told so, the other one gets a fitting code
    a side is lost                   the other one gets a fitting code
    the gateway stops                both get 1012, service restart

After that each side has FAREWELL seconds to say its close, and its connection is closed. Both
tasks end before `relay` returns.
"""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from aiohttp import WSCloseCode

from ..core.errors import (
    InvalidRequest,
    RequestTooLarge,
    ShuttingDown,
    StreamInterrupted,
    UpstreamProtocolError,
)
from ..core.exchange import Watching
from ..core.session import LOST, End, Flow, Session
from ..upstream.websocket import Socket

ANSWER = 5.0  # seconds
FAREWELL = 1.0  # seconds; a stopping gateway has two for all last words

Look: TypeAlias = Callable[[bytes], bytes]


class Side:
    """
    One side of a session, the client or the provider of this `name`.

    `flow` counts what comes from it, and `look` gives what is sent on in the place of what came.
    """

    def __init__(self, name: str, socket: Socket, flow: Flow, look: Look) -> None:
        self.name = name
        self.socket = socket
        self.flow = flow
        self.look = look


class Duplex:
    """Relays one session, and notes in it what went through and how it ended."""

    def __init__(self, session: Session, client: Side, provider: Side) -> None:
        self._session = session
        self._client = client
        self._provider = provider
        self._first: tuple[Side, End] | None = None
        self._deaf: Side | None = None

    async def relay(self, watch: Watching) -> BaseException | None:
        """
        Return when the session is over and both sides have been told.

        Gives the error that ended it; None where a side closed it in order. A cancellation ends
        it too: it is the client's leaving, or what `watch` says.
        """
        stopped: ShuttingDown | None = None
        try:
            await self._pass_all()
        except asyncio.CancelledError as raised:
            # a name for `raised` would keep this frame, and so the session, by its traceback
            match watch.claim(raised):
                case ShuttingDown() as stopped:
                    pass
                case _:
                    self._ended(self._client, End(code=LOST))
        if self._first is None and stopped is not None:
            return await self._restart(stopped, watch)
        assert self._first is not None
        return await self._tell(*self._first, watch)

    async def _pass_all(self) -> None:
        """Return once a side has ended it, and the other had its time to answer a close."""
        loop = asyncio.get_running_loop()
        client, provider = self._client, self._provider
        tasks = (
            loop.create_task(self._pass(client, provider)),
            loop.create_task(self._pass(provider, client)),
        )
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            in_order = self._first is not None and _in_order(self._first[1])
            await asyncio.wait(tasks, timeout=ANSWER if in_order else FAREWELL)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:
            if not task.cancelled():
                task.result()  # raises what is a fault of ours
        if self._deaf is not None:
            self._ended(self._deaf, End(code=LOST))

    async def _pass(self, source: Side, sink: Side) -> None:
        """Pass on what the source says until it ends, and its close; stop where the sink is lost."""
        receive, send = source.socket.receive, sink.socket.send
        flow, look = source.flow, source.look
        while not isinstance(message := await receive(), End):
            data: bytes = message.data
            flow.messages += 1
            flow.size += len(data)
            if not await send(message.type, look(data)):
                self._deaf = sink  # it says itself how it ended, if it can
                return
        self._ended(source, message)
        if _in_order(message):
            reason = look(message.reason.encode()).decode(errors="replace")
            sink.socket.say_close(message.code, reason)

    def _ended(self, side: Side, end: End) -> None:
        """Note an end, unless there is one."""
        if self._first is None:
            self._first = side, end
            self._session.closed_by = self._by(side, end)
            self._session.code = end.code

    def _by(self, side: Side, end: End) -> str:
        if end.violation:
            return "gateway"
        return "client" if side is self._client else "provider"

    async def _tell(self, side: Side, end: End, watch: Watching) -> BaseException | None:
        """Tell the sides that do not know, close both connections, and give the error."""
        error = self._error(side, end)
        other = self._provider if side is self._client else self._client
        side.socket.say_close(end.code, end.reason if end.violation else "")
        if other is self._client:
            other.socket.say_close(WSCloseCode.INTERNAL_ERROR, str(error or ""))
        else:
            other.socket.say_close(WSCloseCode.GOING_AWAY, "the client left")
        await self._part(watch)
        return error

    async def _restart(self, error: ShuttingDown, watch: Watching) -> ShuttingDown:
        self._session.closed_by = "gateway"
        self._session.code = WSCloseCode.SERVICE_RESTART
        for side in (self._client, self._provider):
            side.socket.say_close(WSCloseCode.SERVICE_RESTART, error.message)
        await self._part(watch)
        return error

    async def _part(self, watch: Watching) -> None:
        """Close both connections, once both sides have closed or had their time to."""
        client, provider = self._client.socket, self._provider.socket
        try:
            await asyncio.gather(client.part(FAREWELL), provider.part(FAREWELL))
        except asyncio.CancelledError as raised:
            watch.claim(raised)  # whoever it was, there is nothing left to end
        finally:
            provider.drop()
            client.drop()

    def _error(self, side: Side, end: End) -> BaseException | None:
        """Give the error that an end stands for."""
        if _in_order(end):
            return None
        if side is self._client:
            if end.code == LOST:
                return ConnectionResetError("the client left")
            if end.code == WSCloseCode.MESSAGE_TOO_BIG:
                return RequestTooLarge(f"the client sent {end.reason}")
            return InvalidRequest(f"the client sent {end.reason}")
        if end.code == LOST:
            return StreamInterrupted(f"{side.name} {side.socket.why}")
        return UpstreamProtocolError(f"{side.name} sent {end.reason}")


def _in_order(end: End) -> bool:
    return end.code != LOST and not end.violation
