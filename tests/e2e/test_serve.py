"""The command as a process: what it says, how it stops, what it holds in memory."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llmproxy.serve import ONCE_MORE
from llmproxy.testing.answers import event, openai_events, openai_plain
from llmproxy.testing.provider import End, Provider, stream
from tests.support.gateway import HELLO, ROOT, Command, keys, model, provider
from tests.support.wire import Client, get, request

from .conftest import Serve, processes

BODY = {"model": "gpt-4", "messages": HELLO, "stream": True}
PATH = "/v1/chat/completions"


def one(openai: Provider, more: str = "") -> str:
    """`gpt-4` goes to the scripted provider."""
    return provider("openai", openai.url) + model("gpt-4", "openai/gpt-4") + more


async def test_with_no_configuration_the_mock_answers_any_model_without_a_key(
    serve: Serve,
) -> None:
    gateway = await serve(None)

    plain = await gateway.chat("gpt-4")
    streamed = await gateway.chat("gpt-4", stream=True)

    assert plain.json["choices"][0]["message"]["content"]
    assert streamed.body.endswith(b"data: [DONE]\n\n")
    labels = {"provider": "mock", "status": "success", "model": "gpt-4"}
    assert (await gateway.numbers()).value("llm_requests_total", **labels) == 2


async def test_the_start_says_where_it_listens_and_whom_it_serves(
    serve: Serve, openai: Provider
) -> None:
    gateway = await serve(one(openai))

    said = "\n".join(gateway.lines)

    assert str(gateway.port) in said
    assert "openai" in said
    assert "gpt-4" in said
    assert "sk-openai-key" not in said


async def test_each_request_is_one_json_line_without_bodies_or_secrets(
    serve: Serve, openai: Provider
) -> None:
    openai.then(openai_plain("a secret answer"))
    gateway = await serve(one(openai))

    await gateway.chat(headers={"x-request-id": "mine-1", "authorization": "Bearer sk-theirs"})

    line = json.loads((await gateway.says('"event":"request"')).string)
    assert line["id"] == "mine-1"
    assert line["model"] == "gpt-4"
    assert line["status"] == 200
    assert len(line["attempts"]) == 1
    everything = "\n".join(gateway.lines)
    for secret in ("a secret answer", "Hello", "sk-theirs", "sk-openai-key"):
        assert secret not in everything


@pytest.mark.parametrize("times", [1, 3])  # `timeout` signals the process and then its group
async def test_sigterm_lets_a_stream_finish_and_ends_with_0_however_often_it_comes_at_once(
    serve: Serve, openai: Provider, times: int
) -> None:
    go = asyncio.Event()
    words = openai_events("a", "b")
    openai.then(stream(*words[:2], go, *words[2:]))
    gateway = await serve(one(openai))
    async with Client(gateway.port) as client:
        await client.post(PATH, BODY)
        head = await client.head()
        for _ in range(times):
            gateway.signal(signal.SIGTERM)
        await gateway.says("draining")
        with pytest.raises(ConnectionRefusedError):
            await gateway.get("/readyz")

        go.set()
        body, complete = await client.chunks()
        status = await gateway.exited()

    assert head.status == 200
    assert complete
    assert body == b"".join(words)
    assert status == 0


async def test_sigterm_lets_an_upload_finish(serve: Serve, openai: Provider) -> None:
    openai.then(openai_plain("Hi"))
    gateway = await serve(one(openai))
    body = json.dumps({"model": "gpt-4", "messages": HELLO}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    async with Client(gateway.port) as client:
        await client.send(f"{head}expect: 100-continue\r\n\r\n".encode())
        await client.until(b"100 Continue\r\n\r\n")
        gateway.signal(signal.SIGTERM)
        await gateway.says("draining")

        await client.send(body)
        answered = await client.answer()
        rest = await client.closed()

    assert answered.status == 200
    assert rest == b""
    assert await gateway.exited() == 0


async def test_sigterm_closes_idle_connections(serve: Serve, openai: Provider) -> None:
    gateway = await serve(one(openai))
    async with Client(gateway.port) as client:
        await client.send(request("GET", "/livez", b"", {}))
        await client.answer()

        gateway.signal(signal.SIGTERM)
        rest = await client.closed()

    assert rest == b""
    assert await gateway.exited() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_gateway_stops_at_once_with_0(
    serve: Serve, openai: Provider, number: signal.Signals
) -> None:
    gateway = await serve(one(openai))

    gateway.signal(number)

    assert await asyncio.wait_for(gateway.exited(), 5) == 0
    assert not any("Traceback" in line for line in gateway.lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_stop_that_comes_during_the_start_ends_it_at_once_with_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "gateway.toml"
    os.mkfifo(file)
    process = await begin("serve", "--config", str(file), cwd=tmp_path)

    with await asyncio.to_thread(file.open, "w"):  # it reads, and waits for more
        process.send_signal(number)
        output, _ = await process.communicate()

    assert (process.returncode, output) == (0, b"")


async def test_when_the_grace_is_over_a_stream_is_told_so(serve: Serve, openai: Provider) -> None:
    openai.then(stream(*openai_events("a")[:2], End.HANG))
    gateway = await serve(one(openai, '\n[server]\ngrace = "200ms"\n'))

    body, complete, status = await told_at_the_end(gateway, signals=1)

    assert complete
    assert "restart" in body["error"]["message"]
    assert status == 0
    await openai.client_left()


async def test_a_second_signal_ends_the_grace_at_once(serve: Serve, openai: Provider) -> None:
    openai.then(stream(*openai_events("a")[:2], End.HANG))
    gateway = await serve(one(openai, '\n[server]\ngrace = "10m"\n'))

    body, complete, status = await told_at_the_end(gateway, signals=2)

    assert complete
    assert "restart" in body["error"]["message"]
    assert status == 0


@pytest.mark.parametrize("half", [b"", b"GET /li"])
async def test_a_head_has_the_time_again_for_which_the_gateway_stood_still(
    serve: Serve, openai: Provider, half: bytes
) -> None:
    gateway = await serve(one(openai, '\n[limits]\nhead_time = "500ms"\n'))
    async with Client(gateway.port) as client:
        await client.send(half)
        await gateway.get("/livez")  # it has seen that by now

        gateway.signal(signal.SIGSTOP)
        await asyncio.sleep(1.5)  # the standstill
        gateway.signal(signal.SIGCONT)
        await gateway.get("/livez")
        await client.send(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n".removeprefix(half))

        assert (await client.answer()).status == 200


async def told_at_the_end(gateway: Command, *, signals: int) -> tuple[Any, bool, int]:
    """Stream, stop the gateway, and return the stream's last event and the exit status."""
    async with Client(gateway.port) as client:
        await client.post(PATH, BODY)
        await client.head()
        gateway.signal(signal.SIGTERM)
        await gateway.says("draining")
        if signals == 2:
            await asyncio.sleep(ONCE_MORE)
            gateway.signal(signal.SIGTERM)
        body, complete = await client.chunks()
    last = json.loads(body.rstrip().rpartition(b"data: ")[2])
    return last, complete, await gateway.exited()


async def test_a_plain_request_is_told_when_the_grace_is_over(
    serve: Serve, openai: Provider
) -> None:
    openai.then([End.HANG])
    gateway = await serve(one(openai, '\n[server]\ngrace = "100ms"\n'))
    asking = asyncio.ensure_future(gateway.chat())
    await openai.asked()

    gateway.signal(signal.SIGTERM)
    answered = await asking

    assert answered.status == 503
    assert answered.headers["retry-after"] == "1"
    assert await gateway.exited() == 0


async def test_a_slow_reader_costs_no_memory(serve: Serve, openai: Provider) -> None:
    word = event({"choices": [{"index": 0, "delta": {"content": "x" * 4000}}]})
    openai.then(openai_plain(), *(stream(*[word] * 8_000) for _ in range(4)))
    gateway = await serve(one(openai))
    await gateway.chat()
    before = gateway.memory()
    clients = [Client(gateway.port, receive_buffer=8192) for _ in range(4)]
    for client in clients:
        await client.__aenter__()
        await client.post(PATH, BODY)
        await client.head()

    await openai.stalled()

    grown = gateway.memory() - before
    for client in clients:
        client.vanish()
    assert grown < 8_000_000  # of 4 x 32 MB offered


async def run(*arguments: str, cwd: Path, **env: str) -> tuple[int, str]:
    """Run the command to its end; return its status and all it wrote."""
    process = await begin(*arguments, cwd=cwd, **env)
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def begin(*arguments: str, cwd: Path, **env: str) -> asyncio.subprocess.Process:
    """Start the command; all it writes can be read from `stdout`."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "llmproxy",
        *arguments,
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(cwd), **env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("table", "option"), [("server", "server.port (--port)"), ("admin", "admin.port")]
)
async def test_a_port_in_use_is_told_with_1_and_what_to_do(
    tmp_path: Path, workers: str, table: str, option: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"server": 0, "admin": 0, table: port}
        (tmp_path / "llmproxy.toml").write_text(f"""
[server]
port = {ports["server"]}
[admin]
key = "sk-operators-key"
port = {ports["admin"]}
[providers.mock]
kind = "mock"
""")

        status, output = await run("serve", "--workers", workers, cwd=tmp_path)

    assert status == 1
    (told,) = [json.loads(line) for line in output.splitlines() if "cannot listen" in line]
    assert told["address"] == f"127.0.0.1:{port}"
    assert told["advice"].endswith(f"choose another {option}")
    assert "Traceback" not in output


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_of_an_address_that_is_not_ours_nobody_is_said_to_listen_there(
    tmp_path: Path, workers: str
) -> None:
    host = "192.0.2.1"  # of RFC 5737
    where = ("--host", host, "--allow-anonymous", "--workers", workers)

    status, output = await run("serve", *where, cwd=tmp_path)

    assert status == 1
    assert "cannot listen" in output
    assert host in output
    assert "advice" not in output


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"], ids=["stderr", "all"])
async def test_it_serves_without_a_log_where_there_is_none(
    tmp_path: Path, workers: str, closed: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llmproxy", "serve", "--workers", workers, "--port", str(port)]
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", f'exec "$@" {closed}', "sh"),
        *command,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )

    answer = None
    while answer is None and process.returncode is None:
        with suppress(ConnectionError):
            answer = await get(port, "/livez")
    if answer is not None:
        process.send_signal(signal.SIGTERM)

    assert await process.wait() == 0
    assert answer is not None
    assert answer.status == 200


@pytest.mark.parametrize(
    "text",
    [
        "this is no TOML",
        "[servr]\nport = 1\n",
        '[server]\nhost = "0.0.0.0"\n[providers.mock]\nkind = "mock"\n',
        '[providers.mock]\nkind = "mock"\n[models.a]\ntargets = ["nobody/x"]\n',
    ],
    ids=["garbage", "unknown_table", "open_to_the_world", "unknown_provider"],
)
async def test_a_configuration_that_cannot_be_used_is_told_with_2(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "llmproxy.toml").write_text(text)

    status, output = await run("serve", "--port", "0", cwd=tmp_path)

    assert status == 2
    assert "Traceback" not in output
    assert output


async def test_the_environment_s_keys_choose_the_providers(serve: Serve, openai: Provider) -> None:
    openai.then(openai_plain("from the environment"))
    env = {"OPENAI_API_KEY": "sk-env", "LLMPROXY_OPENAI_BASE_URL": f"{openai.url}/v1"}
    gateway = await serve(None, **env, OPENAI_BASE_URL="http://127.0.0.1:9/v1")

    answered = await gateway.chat("gpt-4o")

    assert answered.status == 200
    assert openai.requests[0].header("authorization") == "Bearer sk-env"


async def test_health_knows_whether_a_gateway_runs(
    serve: Serve, openai: Provider, tmp_path: Path
) -> None:
    gateway = await serve(one(openai))

    up, _ = await run("health", gateway.url, cwd=tmp_path)
    gateway.signal(signal.SIGTERM)
    await gateway.exited()
    down, output = await run("health", gateway.url, cwd=tmp_path)

    assert (up, down) == (0, 1)
    assert "Traceback" not in output


async def test_chat_prints_the_answer_and_the_route_it_took(
    serve: Serve, openai: Provider, tmp_path: Path
) -> None:
    openai.then(stream(*openai_events("Hel", "lo")))
    gateway = await serve(one(openai))

    status, output = await run("chat", "gpt-4", "Hi", "--url", gateway.url, cwd=tmp_path)

    assert status == 0
    assert "Hello" in output
    assert "openai" in output


async def test_check_prints_the_routes_and_all_problems(tmp_path: Path, openai: Provider) -> None:
    text = one(openai)
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(text)
    bad.write_text(text + "\n[servr]\n[retry]\nmax_atempts = 1\n")

    passed = await run("check", str(good), cwd=tmp_path, **keys(text))
    failed = await run("check", str(bad), cwd=tmp_path, **keys(text))

    assert passed[0] == 0
    assert "openai/gpt-4" in passed[1]
    assert failed[0] == 2
    assert "servr" in failed[1]
    assert "max_attempts" in failed[1]


MEMORY = """
import resource
from llmproxy.serve import settle_memory

def large():
    blocks = [b"x" * 2**22 for _ in range(10)]

settle_memory()
large()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
large()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_what_large_requests_free_is_used_by_the_next_without_the_kernel() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert int(done.stdout) < 100  # pages; there are 10,240 in these blocks


def test_too_little_memory_to_prepare_for_large_requests_is_no_reason_not_to_start() -> None:
    code = """
import resource
from llmproxy.serve import LARGEST_BLOCK, settle_memory

with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + LARGEST_BLOCK // 2,) * 2)
settle_memory()
"""

    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def descriptors(pid: int) -> tuple[int, int]:
    """Give the size of the kernel's table of a process's descriptors, and how many it may have."""
    size = re.search(r"FDSize:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    limit = re.search(r"Max open files\s+(\d+)", Path(f"/proc/{pid}/limits").read_text())
    assert size is not None
    assert limit is not None
    return int(size[1]), int(limit[1])


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_the_kernel_s_table_of_descriptors_need_not_grow_under_load(
    serve: Serve, openai: Provider, workers: str
) -> None:
    gateway = await serve(one(openai), "--workers", workers)

    for pid in processes(gateway) or [gateway.process.pid]:
        size, limit = descriptors(pid)
        assert size >= min(limit, 16384)
