"""
A provider without a socket: for the first run, demos, load tests and users' own CI.

It answers at the level of bytes, so that everything above it (decoding, the first frame,
errors, usage) is the same as with a real one.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from itertools import cycle, islice
from typing import Protocol

import orjson

from ..config.schema import MockConfig
from ..core.exchange import HttpRequest, Json
from .send import Answer

TEXT = "This answer comes from the mock provider of llmproxy and costs nothing."
MODELS = b'{"object":"list","data":[{"id":"mock","object":"model"}]}'


class MockUpstream:
    """Answers as `[providers.NAME.mock]` says, in the dialect that the request names."""

    def __init__(
        self, config: MockConfig, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._config = config
        self._uniform = uniform

    async def send(self, request: HttpRequest, connect: float | None = None) -> Answer:
        if request.method == "GET":
            return _MockAnswer(200, {"Content-Type": "application/json"}, _once(MODELS))
        config = self._config
        faulty = self._uniform(0.0, 1.0) < config.fault_rate
        if faulty and config.hang:
            await asyncio.get_running_loop().create_future()
        dialect = DIALECTS[request.url.removeprefix("mock:")]
        if faulty and config.status is not None:
            headers = {"Content-Type": "application/json"}
            if config.retry_after is not None:
                headers["Retry-After"] = f"{config.retry_after:g}"
            return _MockAnswer(config.status, headers, _once(dialect.error(config.status)))
        body = orjson.loads(request.body)
        words = list(islice(cycle(TEXT.split()), config.tokens))
        prompt = max(1, len(request.body) // 4)
        if not body.get("stream"):
            await asyncio.sleep(config.first_token + self._pause * max(0, config.tokens - 1))
            answer = dialect.answer(body["model"], " ".join(words), prompt, config.tokens)
            parts = _once(answer)
            headers = {"Content-Type": "application/json"}
        else:
            parts = self._paced(dialect.events(body, words, prompt))
            headers = {"Content-Type": "text/event-stream; charset=utf-8"}
        if faulty and config.cut_after is not None:
            parts = _cut(parts, config.cut_after)
        return _MockAnswer(200, headers, parts)

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    @property
    def _pause(self) -> float:
        pace = self._config.tokens_per_second
        return 1.0 / pace if pace else 0.0

    async def _paced(self, events: list[bytes]) -> AsyncGenerator[bytes, None]:
        wait = self._config.first_token
        for event in events:
            await asyncio.sleep(wait)  # also with no wait: a stream lets others run
            yield event
            wait = self._pause


class _MockAnswer:
    def __init__(
        self, status: int, headers: Mapping[str, str], parts: AsyncGenerator[bytes, None]
    ) -> None:
        self.status = status
        self.headers = headers
        self._parts = parts

    async def read(self) -> bytes:
        return await anext(self._parts, b"")

    def close(self) -> None:
        """Nothing is held: the generator ends with its last reference."""


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


async def _cut(parts: AsyncGenerator[bytes, None], after: int) -> AsyncGenerator[bytes, None]:
    count = 0
    async for part in parts:
        if count == after:
            break
        count += 1
        yield part
    raise ConnectionResetError("cut by the mock")


class _Shapes(Protocol):
    """How a dialect writes an answer; the shapes are the vendors' published ones."""

    def answer(self, model: str, text: str, prompt: int, tokens: int) -> bytes: ...
    def events(self, body: Json, words: list[str], prompt: int) -> list[bytes]: ...
    def error(self, status: int) -> bytes: ...


class _OpenAIShapes:
    def answer(self, model: str, text: str, prompt: int, tokens: int) -> bytes:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
        return orjson.dumps(
            {
                "id": "chatcmpl-mock",
                "object": "chat.completion",
                "created": 0,
                "model": model,
                "choices": [choice],
                "usage": self._usage(prompt, tokens),
            }
        )

    def events(self, body: Json, words: list[str], prompt: int) -> list[bytes]:
        options = body.get("stream_options")
        counted = isinstance(options, dict) and options.get("include_usage") is True
        deltas: list[Json] = [{"content": text} for text in _spaced(words)] or [{}]
        deltas[0] = {"role": "assistant", **deltas[0]}
        choices: list[list[Json]] = [
            [{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas
        ]
        choices.append([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        events = [self._chunk(body["model"], choice, {}) for choice in choices]
        if counted:
            usage = {"usage": self._usage(prompt, len(words))}
            events.append(self._chunk(body["model"], [], usage))
        return [*events, b"data: [DONE]\n\n"]

    def error(self, status: int) -> bytes:
        error = {"message": "a fault of the mock", "type": "mock", "param": None, "code": None}
        return orjson.dumps({"error": error})

    def _chunk(self, model: str, choices: list[Json], more: Json) -> bytes:
        return b"data: %b\n\n" % orjson.dumps(
            {
                "id": "chatcmpl-mock",
                "object": "chat.completion.chunk",
                "created": 0,
                "model": model,
                "choices": choices,
                **more,
            }
        )

    def _usage(self, prompt: int, tokens: int) -> Json:
        return {
            "prompt_tokens": prompt,
            "completion_tokens": tokens,
            "total_tokens": prompt + tokens,
        }


class _AnthropicShapes:
    def answer(self, model: str, text: str, prompt: int, tokens: int) -> bytes:
        return orjson.dumps(
            {
                **self._message(model),
                "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": prompt, "output_tokens": tokens},
            }
        )

    def events(self, body: Json, words: list[str], prompt: int) -> list[bytes]:
        start = {
            **self._message(body["model"]),
            "usage": {"input_tokens": prompt, "output_tokens": 1},
        }
        events: list[Json] = [
            {"type": "message_start", "message": start},
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
            *(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": text},
                }
                for text in _spaced(words)
            ),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": len(words)},
            },
            {"type": "message_stop"},
        ]
        return [
            b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))
            for event in events
        ]

    def error(self, status: int) -> bytes:
        error = {"type": "api_error", "message": "a fault of the mock"}
        return orjson.dumps({"type": "error", "error": error})

    def _message(self, model: str) -> Json:
        return {
            "id": "msg_mock",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
        }


def _spaced(words: list[str]) -> list[str]:
    return [word if index == 0 else f" {word}" for index, word in enumerate(words)]


DIALECTS: Mapping[str, _Shapes] = {
    "openai_chat": _OpenAIShapes(),
    "anthropic_messages": _AnthropicShapes(),
}
