"""
A provider without a socket: for the first run, demos, load tests and users' own CI.

It answers at the level of bytes, so that everything above it (decoding, the first frame,
errors, usage) is the same as with a real one. Of what is asked it heeds what an application's code
depends on: a limit of tokens, `n`, a tool that has to be called, JSON.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, Literal, Protocol, TypeAlias

import orjson

from ..config.schema import MockConfig
from ..core.exchange import HttpRequest, Json
from .base import Answer

TEXT = "This answer comes from the mock provider of llmproxy and costs nothing."
MOST_CHOICES = 128  # as at OpenAI
DEEPEST = 20  # levels of a schema
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
            error = dialect.error(config.status, "a fault of the mock")
            return _MockAnswer(config.status, headers, _once(error))
        body = orjson.loads(request.body)
        missing = [name for name in dialect.REQUIRED if name not in body]
        if missing:
            error = dialect.error(400, f"{missing[0]}: field required")
            return _MockAnswer(400, {"Content-Type": "application/json"}, _once(error))
        said = _say(body, config.tokens)
        prompt = max(1, len(request.body) // 4)
        if not body.get("stream"):
            await asyncio.sleep(config.first_token + self._pause * max(0, len(said.parts) - 1))
            parts = _once(dialect.answer(body["model"], said, prompt))
            headers = {"Content-Type": "application/json"}
        else:
            parts = self._paced(dialect.events(body, said, prompt))
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
    flow = whole = over = None

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


End: TypeAlias = Literal["stop", "length", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What an answer says, in its parts; it is the arguments of `tool` where one is called."""

    parts: list[str]
    end: End
    tool: str | None = None
    choices: int = 1

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def tokens(self) -> int:
        return len(self.parts) * self.choices


def _say(body: Json, tokens: int) -> _Said:
    """Find something to say of so many tokens, or fewer where fewer are asked for."""
    if (tool := _demanded(body)) is not None:
        name, parameters = tool
        return _Said(parts=[_json(_instance(parameters))], end="tool", tool=name)
    choices = min(_count(body.get("n")) or 1, MOST_CHOICES)
    if (schema := _schema(body)) is not None:
        return _Said(parts=[_json(_instance(schema))], end="stop", choices=choices)
    limit = _count(body.get("max_completion_tokens")) or _count(body.get("max_tokens")) or tokens
    words = islice(cycle(TEXT.split()), min(tokens, limit))
    parts = [word if index == 0 else f" {word}" for index, word in enumerate(words)]
    return _Said(parts=parts, end="length" if limit < tokens else "stop", choices=choices)


def _demanded(body: Json) -> tuple[str, Json] | None:
    """Give the name and the arguments' schema of the tool that has to be called, if one has."""
    choice, offered = body.get("tool_choice"), body.get("tools")
    kind = choice if isinstance(choice, str) else _object(choice).get("type")
    tools = [
        _object(tool.get("function")) or tool
        for tool in (offered if isinstance(offered, list) else ())
        if isinstance(tool, dict)
    ]
    if kind in ("function", "tool"):
        name = (_object(_object(choice).get("function")) or _object(choice)).get("name")
        tools = [tool for tool in tools if tool.get("name") == name]
    elif kind not in ("required", "any"):
        return None
    if not tools:
        return None
    tool = tools[0]
    return str(tool.get("name")), _object(tool.get("parameters") or tool.get("input_schema"))


def _schema(body: Json) -> Json | None:
    """Give the schema of the JSON that is asked for; None where text is."""
    asked = _object(body.get("response_format"))
    if asked.get("type") == "json_schema":
        return _object(_object(asked.get("json_schema")).get("schema"))
    return {} if asked.get("type") == "json_object" else None


def _instance(schema: Json, depth: int = 0) -> Any:
    """Give a small value of the schema, as far as this goes without its finer rules."""
    for chosen in (schema.get("enum"), [schema["const"]] if "const" in schema else None):
        if isinstance(chosen, list) and chosen:
            return chosen[0]
    properties, required = _object(schema.get("properties")), schema.get("required")
    names = map(str, required) if isinstance(required, list) and depth < DEEPEST else ()
    filled = {
        name: _instance(_object(properties.get(name)), depth + 1) for name in dict.fromkeys(names)
    }
    kind = schema.get("type", "object")
    plain = {"string": "mock", "integer": 0, "number": 0, "boolean": False, "array": []}
    return plain.get(kind, filled) if isinstance(kind, str) else None


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


class _Shapes(Protocol):
    """
    How a dialect writes an answer; the shapes are the vendors' published ones.

    `REQUIRED` are what its vendor refuses a request without.
    """

    REQUIRED: tuple[str, ...]

    def answer(self, model: str, said: _Said, prompt: int) -> bytes: ...
    def events(self, body: Json, said: _Said, prompt: int) -> list[bytes]: ...
    def error(self, status: int, message: str) -> bytes: ...


class _OpenAIShapes:
    REQUIRED: tuple[str, ...] = ("messages",)
    ENDS: Mapping[End, str] = {"stop": "stop", "length": "length", "tool": "tool_calls"}

    def answer(self, model: str, said: _Said, prompt: int) -> bytes:
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", **self._message(said), "refusal": None},
                "logprobs": None,
                "finish_reason": self.ENDS[said.end],
            }
            for index in range(said.choices)
        ]
        return orjson.dumps(
            {
                "id": "chatcmpl-mock",
                "object": "chat.completion",
                "created": 0,
                "model": model,
                "choices": choices,
                "usage": self._usage(prompt, said.tokens),
            }
        )

    def events(self, body: Json, said: _Said, prompt: int) -> list[bytes]:
        options = body.get("stream_options")
        counted = isinstance(options, dict) and options.get("include_usage") is True
        deltas: list[Json] = [{"content": text} for text in said.parts]
        if said.tool is not None:
            calls = self._message(said)["tool_calls"]
            deltas = [{"tool_calls": [{"index": 0, **call} for call in calls]}]
        deltas[0] = {"role": "assistant", **deltas[0]}
        steps: list[tuple[Json, str | None]] = [(delta, None) for delta in deltas]
        steps.append(({}, self.ENDS[said.end]))
        events = [
            self._chunk(
                body["model"], [{"index": index, "delta": delta, "finish_reason": finish}], {}
            )
            for delta, finish in steps
            for index in range(said.choices)
        ]
        if counted:
            usage = {"usage": self._usage(prompt, said.tokens)}
            events.append(self._chunk(body["model"], [], usage))
        return [*events, b"data: [DONE]\n\n"]

    def _message(self, said: _Said) -> Json:
        if said.tool is None:
            return {"content": said.text}
        function = {"name": said.tool, "arguments": said.text}
        call = {"id": "call_mock", "type": "function", "function": function}
        return {"content": None, "tool_calls": [call]}

    def error(self, status: int, message: str) -> bytes:
        kind, code = "invalid_request_error", None
        if status == 429:
            kind, code = "requests", "rate_limit_exceeded"
        elif status >= 500:
            kind = "server_error"
        error = {"message": message, "type": kind, "param": None, "code": code}
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
    REQUIRED: tuple[str, ...] = ("messages", "max_tokens")
    # https://docs.anthropic.com/en/api/errors
    ERRORS: Mapping[int, str] = {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    ENDS: Mapping[End, str] = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use"}

    def answer(self, model: str, said: _Said, prompt: int) -> bytes:
        block: Json = {"type": "text", "text": said.text}
        if said.tool is not None:
            block = {**self._tool_use(said.tool), "input": orjson.loads(said.text)}
        return orjson.dumps(
            {
                **self._message(model),
                "content": [block],
                "stop_reason": self.ENDS[said.end],
                "usage": {"input_tokens": prompt, "output_tokens": said.tokens},
            }
        )

    def events(self, body: Json, said: _Said, prompt: int) -> list[bytes]:
        start = {
            **self._message(body["model"]),
            "usage": {"input_tokens": prompt, "output_tokens": 1},
        }
        block: Json = {"type": "text", "text": ""}
        kind, field = "text_delta", "text"
        if said.tool is not None:
            block = self._tool_use(said.tool)
            kind, field = "input_json_delta", "partial_json"
        events: list[Json] = [
            {"type": "message_start", "message": start},
            {"type": "content_block_start", "index": 0, "content_block": block},
            *(
                {"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: part}}
                for part in said.parts
            ),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": self.ENDS[said.end], "stop_sequence": None},
                "usage": {"output_tokens": said.tokens},
            },
            {"type": "message_stop"},
        ]
        return [
            b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))
            for event in events
        ]

    def _tool_use(self, name: str) -> Json:
        return {"type": "tool_use", "id": "toolu_mock", "name": name, "input": {}}

    def error(self, status: int, message: str) -> bytes:
        error = {"type": self.ERRORS.get(status, "api_error"), "message": message}
        return orjson.dumps({"type": "error", "error": error, "request_id": "req_mock"})

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


DIALECTS: Mapping[str, _Shapes] = {
    "openai_chat": _OpenAIShapes(),
    "anthropic_messages": _AnthropicShapes(),
}
