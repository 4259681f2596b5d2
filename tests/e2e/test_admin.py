"""What operators do to a running gateway: signals, the file, and the port of their own."""

import asyncio
import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from llmproxy.testing.answers import openai_error, openai_plain
from llmproxy.testing.provider import Provider, answer
from tests.support.gateway import Command, model, provider
from tests.support.wire import Answer, Client, request

from .conftest import Serve

KEY = "env:OPERATORS_KEY"  # sk-operators-key
OPERATOR = {"authorization": "Bearer sk-operators-key"}
ADMIN = f'\n[admin]\nport = 0\nkey = "{KEY}"\n'


def table(openai: Provider, name: str = "gpt-4", more: str = "") -> str:
    """The named model goes to the scripted provider."""
    return provider("openai", openai.url) + model(name, "openai/gpt-4") + ADMIN + more


async def admin_port(gateway: Command) -> int:
    """Give the port of the operators' side."""
    return int((await gateway.says(r"admin.*?127\.0\.0\.1:(\d+)"))[1])


async def operate(
    gateway: Command, method: str, path: str, headers: dict[str, str] = OPERATOR, body: object = b""
) -> Answer:
    """Ask the operators' side."""
    async with Client(await admin_port(gateway)) as client:
        await client.send(request(method, path, body, headers))
        return await client.answer()


def write(gateway: Command, text: str) -> None:
    """Change the configuration file under the gateway."""
    (gateway.folder / "gateway.toml").write_text(text)


async def test_sighup_puts_the_changed_file_in_force(serve: Serve, openai: Provider) -> None:
    openai.then(openai_plain())
    gateway = await serve(table(openai))

    write(gateway, table(openai, "gpt-5"))
    gateway.signal(signal.SIGHUP)
    await gateway.says("configuration reloaded")

    assert (await gateway.chat("gpt-5")).status == 200
    assert (await gateway.chat("gpt-4")).status == 404


async def test_a_bad_file_is_named_in_the_log_and_the_old_one_serves_on(
    serve: Serve, openai: Provider
) -> None:
    openai.then(openai_plain())
    gateway = await serve(table(openai))

    write(gateway, "[server")
    gateway.signal(signal.SIGHUP)
    await gateway.says("not reloaded.*gateway.toml: this is not TOML")

    assert (await gateway.chat("gpt-4")).status == 200


def replace(file: Path, text: str) -> None:
    """Put another file in its place, as editors and Kubernetes do."""
    beside = file.with_suffix(".new")
    beside.write_text(text)
    beside.replace(file)


async def test_a_watched_file_is_put_in_force_by_itself(serve: Serve, openai: Provider) -> None:
    openai.then(openai_plain())
    gateway = await serve(table(openai), "--watch")
    file = gateway.folder / "gateway.toml"

    replace(file, table(openai, "gpt-5"))
    await gateway.says("configuration reloaded")

    assert (await gateway.chat("gpt-5")).status == 200


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_key_that_is_changed_in_its_file_is_used_from_then_on(
    serve: Serve, openai: Provider, tmp_path: Path, workers: str
) -> None:
    openai.always = lambda _: openai_plain()
    file = tmp_path / "key"
    file.write_text("sk-old\n")
    text = f"""
[providers.openai]
kind = "openai"
base_url = "{openai.url}/v1"
api_key = "file:{file}"
[models.gpt-4]
targets = ["openai/gpt-4"]
"""
    gateway = await serve(text, "--watch", "--workers", workers)
    await gateway.chat()

    replace(file, "sk-new\n")
    await gateway.says("configuration reloaded")
    await gateway.chat()

    keys = [request.header("authorization") for request in openai.requests]
    assert keys == ["Bearer sk-old", "Bearer sk-new"]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_key_that_was_missing_is_used_once_it_is_there(
    serve: Serve, openai: Provider, tmp_path: Path, workers: str
) -> None:
    openai.always = lambda _: openai_plain()
    file = tmp_path / "key"
    text = table(openai)
    gateway = await serve(text, "--watch", "--workers", workers)

    write(gateway, text.replace("env:OPENAI_KEY", f"file:{file}"))
    await gateway.says("not reloaded.*cannot be read")
    file.write_text("sk-new\n")
    await gateway.says("configuration reloaded")
    await gateway.chat()

    assert openai.requests[-1].header("authorization") == "Bearer sk-new"


async def test_options_of_the_command_win_over_a_reloaded_file_too(
    serve: Serve, openai: Provider
) -> None:
    openai.then(openai_plain())
    gateway = await serve(table(openai))

    write(gateway, table(openai, "gpt-5"))
    answer = await operate(gateway, "POST", "/admin/reload")

    assert answer.status == 200
    assert answer.json == {
        "changes": ["models.gpt-4: removed", "models.gpt-5: added"],
        "needs_restart": [],
    }
    assert (await gateway.chat("gpt-5")).status == 200


async def test_what_takes_a_restart_is_said(serve: Serve, openai: Provider) -> None:
    gateway = await serve(table(openai))

    write(gateway, table(openai, more='[logging]\nlevel = "error"\n'))
    answer = await operate(gateway, "POST", "/admin/reload")

    assert answer.json["needs_restart"] == ['logging.level: "info" → "error"']


async def test_a_bad_file_is_a_422_with_every_problem(serve: Serve, openai: Provider) -> None:
    gateway = await serve(table(openai))

    write(gateway, table(openai, more="[retry]\nmax_atempts = 1\n[limits]\nbdy = 1\n"))
    answer = await operate(gateway, "POST", "/admin/reload")

    assert answer.status == 422
    assert len(answer.json["error"]["problems"]) == 2


async def test_the_operators_side_is_closed_without_its_key(serve: Serve, openai: Provider) -> None:
    gateway = await serve(table(openai))
    none, wrong, no_bearer = "", "Bearer sk-operators-kex", "Basic abc"

    answers = [
        await operate(gateway, method, path, {"authorization": key} if key else {})
        for method, path in (("POST", "/admin/reload"), ("GET", "/admin/reload"), ("GET", "/"))
        for key in (none, wrong, no_bearer)
    ]

    assert [answer.status for answer in answers] == [401] * 9
    assert "sk-operators" not in "\n".join(json.dumps(answer.json) for answer in answers)
    assert not any("reloaded" in line for line in gateway.lines)


async def test_the_operators_key_opens_nothing_on_the_clients_port(
    serve: Serve, openai: Provider
) -> None:
    gateway = await serve(table(openai))

    answer = await gateway.get("/admin/reload", OPERATOR)

    assert answer.status == 404


async def test_without_an_operators_key_there_is_no_second_port(
    serve: Serve, openai: Provider
) -> None:
    gateway = await serve(provider("openai", openai.url) + model("gpt-4", "openai/gpt-4"))

    gateway.signal(signal.SIGTERM)
    await gateway.exited()

    assert not any("admin" in line for line in gateway.lines)


ONCE = "[retry]\nmax_attempts = 1\n[breaker]\nfailure_threshold = 1\n"
SPARE = '\n[providers.spare]\nkind = "mock"\n'


def two(openai: Provider, more: str = "") -> str:
    """`gpt-4` goes to the scripted provider, then to a mock."""
    targets = model("gpt-4", "openai/gpt-4", "spare/gpt-4")
    return provider("openai", openai.url) + SPARE + targets + ADMIN + ONCE + more


async def test_circuits_are_shown_with_their_reason_and_since_when(
    serve: Serve, openai: Provider
) -> None:
    openai.then(answer(openai_error(), status=500))
    gateway = await serve(two(openai))
    await gateway.chat()

    shown = (await operate(gateway, "GET", "/admin/breakers")).json["breakers"]

    circuit = next(one for one in shown if one["provider"] == "openai")
    assert circuit["state"] == "open"
    assert "1 failure" in circuit["reason"]
    assert circuit["since"].endswith("+00:00")
    assert 0 < circuit["retry_in_s"] <= 10
    assert {one["provider"]: one["state"] for one in shown}["spare"] == "closed"


async def test_a_circuit_is_held_open_until_it_is_let_go(serve: Serve, openai: Provider) -> None:
    openai.always = lambda _: openai_plain()
    gateway = await serve(two(openai))

    held = await operate(gateway, "POST", "/admin/breakers/openai", body={"force": "open"})
    passed_over = await gateway.chat()
    state = (await gateway.numbers()).value("llm_circuit_state", provider="openai")
    await operate(gateway, "POST", "/admin/breakers/openai", body={"force": None})
    asked = await gateway.chat()

    assert held.json["breakers"][0]["forced"] == "open"
    assert passed_over.headers["x-llmproxy-provider"] == "spare"
    assert state == 1
    assert asked.headers["x-llmproxy-provider"] == "openai"
    await gateway.says('"event":"forced","provider":"openai","to":"open"')


async def test_a_circuit_is_held_closed_whatever_fails(serve: Serve, openai: Provider) -> None:
    openai.always = lambda _: answer(openai_error(), status=500)
    gateway = await serve(two(openai))

    await operate(gateway, "POST", "/admin/breakers/openai", body={"force": "closed"})
    for _ in range(3):
        await gateway.chat()

    assert len(openai.requests) == 3


IMPOSSIBLE: Sequence[tuple[str, object, int]] = (
    ("/admin/breakers/nobody", {"force": "open"}, 404),
    ("/admin/breakers/openai", {"force": "ajar"}, 400),
    ("/admin/breakers/openai", {"open": True}, 400),
    ("/admin/breakers/openai", b"{", 400),
    ("/admin/breakers/openai", {"force": "open", "model": 1}, 400),
    ("/admin/breakers/openai", {"force": "open", "model": "gpt-4"}, 409),
    ("/admin/elsewhere", {}, 404),
)


async def test_what_cannot_be_done_is_said_and_nothing_is_done(
    serve: Serve, openai: Provider
) -> None:
    gateway = await serve(two(openai))

    for path, body, status in IMPOSSIBLE:
        refused = await operate(gateway, "POST", path, body=body)

        assert (path, body, refused.status) == (path, body, status)
        assert refused.json["error"]["message"]
        shown = (await operate(gateway, "GET", "/admin/breakers")).json["breakers"]
        assert {one["forced"] for one in shown} == {None}


async def test_the_route_of_a_model_is_told_with_what_stands_in_its_way(
    serve: Serve, openai: Provider
) -> None:
    openai.then(answer(openai_error(), status=500))
    gateway = await serve(two(openai))
    await gateway.chat()

    told = (await operate(gateway, "GET", "/admin/route?model=gpt-4")).json

    assert told["rule"] == '[models."gpt-4"]'
    first, second = told["targets"]
    assert (first["target"], second["target"]) == ("openai/gpt-4", "spare/gpt-4")
    assert first["obstacles"][0].startswith("the circuit is open: 1 failure")
    assert first["clients"] == {
        "/v1/chat/completions": "as it is",
        "/v1/responses": "as it is",
        "/v1/messages": "translated",
        "/v1beta/models/{model}:generateContent": "translated",
    }
    assert second["obstacles"] == []


async def test_a_refused_key_puts_its_target_last_in_the_route_that_is_told(
    serve: Serve, openai: Provider
) -> None:
    openai.then(answer(openai_error(), status=401))
    gateway = await serve(two(openai))
    await gateway.chat()

    told = (await operate(gateway, "GET", "/admin/route?model=gpt-4")).json

    assert [target["target"] for target in told["targets"]] == ["spare/gpt-4", "openai/gpt-4"]
    assert "key 0 is left alone for" in told["targets"][1]["obstacles"][0]


async def test_a_route_that_is_not_there_is_a_404(serve: Serve, openai: Provider) -> None:
    gateway = await serve(two(openai))

    unknown = await operate(gateway, "GET", "/admin/route?model=gpt-9")
    nameless = await operate(gateway, "GET", "/admin/route")
    stranger = await operate(gateway, "GET", "/admin/route?model=gpt-4&key=nobody")

    assert [one.status for one in (unknown, nameless, stranger)] == [404, 400, 400]


async def test_the_log_line_of_a_request_tells_whom_it_passed_over_and_why(
    serve: Serve, openai: Provider
) -> None:
    openai.then(answer(openai_error(), status=500))
    gateway = await serve(two(openai))

    await gateway.chat()
    await gateway.chat()

    line = json.loads((await gateway.says(r".*passed_over.*"))[0])
    (passed,) = line["passed_over"]
    assert passed["target"] == "openai/gpt-4"
    assert passed["reason"].startswith("BreakerOpen: ")
    assert [one["target"] for one in line["attempts"]] == ["spare/gpt-4"]


async def test_a_file_that_has_gone_is_not_taken_for_none(
    serve: Serve, openai: Provider, tmp_path: Path
) -> None:
    file = tmp_path / "llmproxy.toml"
    file.write_text(table(openai))
    gateway = await serve(None, OPERATORS_KEY="sk-operators-key", OPENAI_KEY="sk-openai-key")
    file.unlink()

    gateway.signal(signal.SIGHUP)
    await gateway.says("not reloaded.*No such file")

    assert (await gateway.chat("gpt-9")).status == 404


async def test_a_request_on_the_operators_side_that_does_not_end_keeps_nobody_from_stopping(
    serve: Serve, openai: Provider
) -> None:
    gateway = await serve(table(openai))
    async with Client(await admin_port(gateway)) as client:
        head = "POST /admin/reload HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n"
        await client.send(f"{head}authorization: Bearer sk-operators-key\r\n\r\n".encode())

        gateway.signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            status = await gateway.exited()

    assert status == 0


async def test_what_is_no_http_leaves_no_traceback_in_the_log(
    serve: Serve, openai: Provider
) -> None:
    no_url = b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n"
    tls = b"\x16\x03\x01\x02\x00"
    no_header = b"GET / HTTP/1.1\r\na\r\n\r\n"
    gateway = await serve(table(openai))

    for data in (no_url, tls, no_header):
        async with Client(await admin_port(gateway)) as client:
            await client.send(data)
            await client.head()
    gateway.signal(signal.SIGTERM)
    await gateway.exited()

    assert not any("Traceback" in line or '"error"' in line for line in gateway.lines)
