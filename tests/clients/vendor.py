"""
A scripted vendor: all four dialects by their paths, judging what it is asked as the vendors do.

What it answers is told by a mark in the request's text, `[CLIENT/CASE/SCENARIO]`, and by how many
requests with that mark came before.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from llmproxy.testing.provider import End, Move, Pause, Provider, Request, Step, answer, stream

from .dialects import WORDINGS, JsonObject, Wording
from .meaning import CITY, GREETING, SCENARIOS, Breaks, Refuses, Says, Stop, Turn, Use

MARK = re.compile(rb"\[([\w.-]+)/([\w.-]+)/([\w.-]+)\]")
MOMENT = Pause(0.05)  # before a reset, which makes the kernel drop what was not read yet

GENERATE = re.compile(r"/v1(?:beta)?/models/([^/:]+):(generateContent|streamGenerateContent)$")
PATHS: Mapping[str, str] = {
    "/v1/chat/completions": "openai_chat",
    "/v1/responses": "openai_responses",
    "/v1/messages": "anthropic_messages",
}
MODELS = (
    "gpt-4.1",
    "claude-sonnet-4-5",
    "claude-sonnet-5-5",
    "gemini-2.5-flash",
    "text-embedding-3-small",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request with the mark in it."""

    client: str
    case: str
    scenario: str
    request: Request


@dataclass(slots=True)
class Vendor:
    """Answers what comes with its key; `calls` has what came with a mark."""

    key: str
    provider: Provider = field(default_factory=Provider)
    calls: list[Call] = field(default_factory=list)
    _threads: dict[str, list[JsonObject]] = field(default_factory=dict)
    _asked: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.provider.always = self._answer

    @property
    def url(self) -> str:
        return self.provider.url

    def calls_of(self, client: str, case: str) -> list[Call]:
        """Give what a case sent."""
        return [call for call in self.calls if (call.client, call.case) == (client, case)]

    async def client_left(self, client: str, case: str) -> None:
        """Return once an answer to the case was broken off by the client's leaving."""
        mark = f"[{client}/{case}/".encode()
        await self.provider.until(
            lambda: any(mark in request.body for request in self.provider.broken_off)
        )

    def _answer(self, request: Request) -> Step:  # noqa: PLR0911 - one for each endpoint
        path = request.target.partition("?")[0]
        if request.method == "GET":
            return _models(request, path)
        found = MARK.search(request.body)
        if found is None:
            return answer({"error": {"message": "no mark in the request"}}, status=418)
        client, case, scenario = (part.decode() for part in found.groups())
        self.calls.append(Call(client=client, case=case, scenario=scenario, request=request))
        asked = json.loads(request.body)
        if path == "/v1/embeddings":
            return _embeddings(asked)
        if path == "/v1/messages/count_tokens":
            headers = WORDINGS["anthropic_messages"].headers
            return answer({"input_tokens": 29}, headers=headers)
        if path.endswith(":countTokens"):
            return answer({"totalTokens": 29})
        generate = GENERATE.search(path)
        dialect = "gemini" if generate else PATHS.get(path)
        if dialect is None:
            return answer({"error": {"message": f"no path {path}"}}, status=404)
        wording = WORDINGS[dialect]
        streamed = "stream" in generate[2] if generate else asked.get("stream") is True
        self._thread(asked, found[0].decode())
        number = self._asked[client, case, scenario]
        self._asked[client, case, scenario] += 1
        turns = SCENARIOS[scenario]
        turn = turns[min(number, len(turns) - 1)]
        if (fault := _fault(request, dialect, asked, self.key)) is not None:
            return _refused(wording, *fault)
        return _played(wording, _fitted(turn, wording, asked), asked, streamed=streamed)

    def _thread(self, asked: JsonObject, mark: str) -> None:
        """Put the messages of an earlier request before those of one that continues a thread."""
        kind = (asked.get("thread") or {}).get("type")
        if kind == "create":
            self._threads[mark] = asked["messages"]
        elif kind == "continue":
            asked["messages"] = self._threads[mark] + asked["messages"]


def _played(wording: Wording, turn: Turn, asked: JsonObject, *, streamed: bool) -> Step:
    match turn:
        case Breaks.OVERLOADED:
            refused = Refuses(status=wording.overloaded)
            return _played(wording, refused, asked, streamed=streamed)
        case Refuses():
            headers = dict(wording.headers)
            if turn.retry_after is not None:
                headers["retry-after"] = turn.retry_after
            return answer(wording.refusal(turn), status=turn.status, headers=headers)
        case Breaks.HANGS:
            return [End.HANG]
        case Breaks():
            return _broken(wording, turn, asked)
        case Says():
            if streamed:
                return stream(*wording.streamed(turn, asked).parts, headers=wording.headers)
            return answer(wording.plain(turn, asked), headers=wording.headers)


def _broken(wording: Wording, turn: Breaks, asked: JsonObject) -> Iterator[Move]:
    # the last piece may come with what ends the answer
    written = wording.streamed(Says(text=("Hello", ", wörld", "")), asked)
    parts: list[Move] = [*written.parts[: written.ending]]
    if turn is Breaks.STALLS:
        parts.append(End.HANG)
    elif turn is Breaks.DROPS:
        parts += [MOMENT, End.RESET]
    elif turn is Breaks.ERRS:
        parts.append(wording.broken())
    yield from stream(*parts, headers=wording.headers)


def _fitted(turn: Turn, wording: Wording, asked: JsonObject) -> Turn:
    """Call the tool that has to be called, where a client asks for JSON in this way."""
    name = wording.forced(asked)
    if isinstance(turn, Says) and turn.text in {CITY, GREETING} and name is not None:
        use = Use(name=name, pieces=turn.text)
        return replace(turn, text=(), uses=(use,), stop=Stop.TOOL)
    return turn


def _fault(
    request: Request, dialect: str, asked: JsonObject, wanted: str
) -> tuple[int, str] | None:
    """Say what a vendor would not take."""
    wording = WORDINGS[dialect]
    key = (
        request.header("x-api-key")
        or request.header("x-goog-api-key")
        or (request.header("authorization") or "").removeprefix("Bearer ")
    )
    if key != wanted:
        return 401, f"wrong key: {key}"
    if dialect == "anthropic_messages" and request.header("anthropic-version") is None:
        return 400, "anthropic-version: header is required"
    if (missing := wording.missing(asked)) is not None:
        return 400, f"missing: {missing}"
    if unknown := asked.keys() - wording.fields:
        return 400, f"unknown: {', '.join(sorted(unknown))}"
    calls, results = wording.results(asked)
    if set(calls) != set(results):
        return 400, f"calls {calls} and results {results} do not fit"
    return None


def _refused(wording: Wording, status: int, why: str) -> Step:
    body = json.dumps(wording.refusal(Refuses(status=status))).replace("told so", why)
    return answer(body.encode(), status=status, headers=wording.headers)


def _models(request: Request, path: str) -> Step:
    """List the models, or show one, in the shape that the path and the headers ask for."""
    if request.header("x-goog-api-key") is not None:
        return answer({"models": [{"name": f"models/{name}"} for name in MODELS]})
    shown: list[JsonObject]
    if request.header("anthropic-version") is not None:
        shown = [
            {
                "type": "model",
                "id": name,
                "display_name": name,
                "created_at": "2025-09-29T00:00:00Z",
            }
            for name in MODELS
        ]
        listed: JsonObject = {
            "data": shown,
            "has_more": False,
            "first_id": MODELS[0],
            "last_id": MODELS[-1],
        }
    else:
        shown = [
            {"id": name, "object": "model", "created": 1_760_000_000, "owned_by": "x"}
            for name in MODELS
        ]
        listed = {"object": "list", "data": shown}
    name = path.removeprefix("/v1/models").strip("/")
    return answer(shown[MODELS.index(name)] if name else listed)


def _embeddings(asked: JsonObject) -> Step:
    inputs = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    vector: object = [0.5, -0.25]
    if asked.get("encoding_format") == "base64":
        vector = "AAAAPwAAgL4="
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, _ in enumerate(inputs)
    ]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    return answer({"object": "list", "data": data, "model": asked["model"], "usage": usage})
