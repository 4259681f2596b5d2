"""`llmproxy chat`."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from typing import Any

from .configuration import load, local_url
from .http import Answer, Unreachable, request
from .verb import GOOD, Verb, add_config_option, fail

TIMEOUT = 600.0  # seconds between two parts of an answer; models may think long
KEY_VARIABLE = "LLMPROXY_CLIENT_KEY"


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a public name, or provider/model")
    parser.add_argument("text", metavar="TEXT", help="what to say; - reads standard input")
    parser.add_argument(
        "--url",
        help="the gateway's address (default: the configuration's server.host and server.port, "
        "which are http://127.0.0.1:8080)",
    )
    parser.add_argument(
        "--key",
        help=f"client key (default: ${KEY_VARIABLE}, which does not show in the process list)",
    )
    add_config_option(parser)


def _run(options: argparse.Namespace) -> int:
    base = options.url or local_url(load(options.config, secrets=False))
    base = base.rstrip("/").removesuffix("/v1")
    text = sys.stdin.read() if options.text == "-" else options.text
    call = {
        "model": options.model,
        "messages": [{"role": "user", "content": text}],
        "stream": True,
    }
    headers = {"content-type": "application/json"}
    if key := options.key or os.environ.get(KEY_VARIABLE):
        headers["authorization"] = f"Bearer {key}"
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an answer may hold what the terminal has not
    try:
        with request(
            "POST",
            f"{base}/v1/chat/completions",
            body=json.dumps(call, ensure_ascii=True).encode(),
            headers=headers,
            timeout=TIMEOUT,
        ) as answer:
            return _show(answer)
    except Unreachable as error:
        return fail("chat", str(error))


def _show(answer: Answer) -> int:
    """Print the answer as it comes, then the route it took."""
    if answer.status != 200:
        status = fail("chat", f"{answer.status}: {_message(answer.read())}")
        _print_route(answer)
        return status
    said = False
    for event in events(answer.lines()):
        if event == "[DONE]":
            print()
            _print_route(answer)
            return GOOD
        chunk = _json(event)
        if "error" in chunk:
            return _broken_off(answer, _message(event.encode()), said)
        for text in contents(chunk):
            print(text, end="", flush=True)
            said = True
    return _broken_off(answer, "the answer broke off", said)


def events(lines: Iterable[bytes]) -> Iterator[str]:
    """Give the data of each server-sent event (https://html.spec.whatwg.org/#parsing-an-event-stream)."""
    data: list[str] = []
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text.startswith("data:"):
            data.append(text.removeprefix("data:").removeprefix(" "))
        elif not text and data:
            yield "\n".join(data)
            data = []


def contents(chunk: dict[str, Any]) -> Iterator[str]:
    """Give the texts of a chunk of a chat completion."""
    for choice in chunk.get("choices") or ():
        content = (choice.get("delta") or {}).get("content")
        if content:
            yield content


def _broken_off(answer: Answer, reason: str, said: bool) -> int:
    if said:
        print(flush=True)
    status = fail("chat", reason)
    _print_route(answer)
    return status


def _print_route(answer: Answer) -> None:
    """Say on standard error who answered, after how many attempts."""
    get = answer.headers.get
    provider, model = get("x-llmproxy-provider"), get("x-llmproxy-model")
    attempts = get("x-llmproxy-attempts")
    if provider is not None:
        plural = "" if attempts == "1" else "s"
        route = f"{provider}/{model}, {attempts} attempt{plural}, "
    else:
        route = ""
    print(f"[{route}request {get('x-llmproxy-request-id', 'unknown')}]", file=sys.stderr)


def _message(body: bytes) -> str:
    """Give the message of an error body, or what there is instead."""
    error = _json(body).get("error")
    message = error.get("message") if isinstance(error, dict) else None
    return str(message or body[:500].decode("utf-8", "replace") or "no message")


def _json(text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


VERB = Verb(
    manual="""\
Prints the answer as it streams, and then on standard error the route that it took: provider,
model, number of attempts and the request's id, under which the gateway's log has it.""",
    epilog=f"""\
examples:
  llmproxy chat gpt-4 'Say hello'
  llmproxy chat anthropic/claude-sonnet-5-5 - < question.txt
  {KEY_VARIABLE}=... llmproxy chat gpt-4 hi --url https://llm.example.com

exit status:
  0  the answer came to its end
  1  it did not: the gateway cannot be reached, refused, or the answer broke off
  2  wrong usage or configuration""",
    options=_options,
    run=_run,
)
