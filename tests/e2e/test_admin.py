"""What operators do to a running gateway: signals, the file, and the port of their own."""

import json
import signal

import pytest

from llmproxy.testing.answers import openai_plain
from llmproxy.testing.provider import Provider
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


async def test_a_watched_file_is_put_in_force_by_itself(serve: Serve, openai: Provider) -> None:
    openai.then(openai_plain())
    gateway = await serve(table(openai), "--watch")
    file = gateway.folder / "gateway.toml"

    beside = file.with_suffix(".new")  # as editors and Kubernetes do: another file in its place
    beside.write_text(table(openai, "gpt-5"))
    beside.replace(file)
    await gateway.says("configuration reloaded")

    assert (await gateway.chat("gpt-5")).status == 200


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


@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer sk-operators-kex"}, {"authorization": "Basic abc"}],
    ids=["none", "wrong", "not a bearer"],
)
async def test_the_operators_side_is_closed_without_its_key(
    serve: Serve, openai: Provider, headers: dict[str, str]
) -> None:
    gateway = await serve(table(openai))

    answers = [
        await operate(gateway, method, path, headers)
        for method, path in (("POST", "/admin/reload"), ("GET", "/admin/reload"), ("GET", "/"))
    ]

    assert [answer.status for answer in answers] == [401, 401, 401]
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
