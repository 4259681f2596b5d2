"""Several workers as one gateway: processes that are killed, replaced and stopped."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from llmproxy.serve import ONCE_MORE
from llmproxy.testing.answers import openai_events
from llmproxy.testing.provider import Provider, stream
from tests.support.gateway import HELLO, ROOT, Command, model, provider
from tests.support.metrics import Numbers
from tests.support.wire import Client, ask, request

from .conftest import Serve, processes

PATH = "/v1/chat/completions"
STREAM = {"messages": HELLO, "stream": True}


def one(openai: Provider, more: str = "") -> str:
    """`gpt-4` goes to the scripted provider."""
    return provider("openai", openai.url) + model("gpt-4", "openai/gpt-4") + more


async def gone(*pids: int) -> None:
    """Return once all the processes have ended."""
    for pid in pids:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(process, ended.set)
        try:
            async with asyncio.timeout(20):
                await ended.wait()
        finally:
            asyncio.get_running_loop().remove_reader(process)
            os.close(process)


@pytest.fixture
async def streams(openai: Provider) -> AsyncIterator["Streams"]:
    """Streams of the provider that go on when they are told to."""
    async with AsyncExitStack() as stack:
        streams = Streams(openai, stack)
        yield streams
        streams.go.set()


class Streams:
    """Streams that are open at once, on all workers."""

    def __init__(self, openai: Provider, stack: AsyncExitStack) -> None:
        self.go = asyncio.Event()
        self.words = openai_events("a", "b")
        openai.always = lambda _: stream(*self.words[:2], self.go, *self.words[2:])
        self.clients: list[Client] = []
        self._stack = stack

    async def open(self, gateway: Command, count: int, model: str = "gpt-4") -> None:
        """Open so many more, each to its first words."""
        for _ in range(count):
            client = await self._stack.enter_async_context(Client(gateway.port))
            await client.post(PATH, STREAM | {"model": model})
            await client.head()
            self.clients.append(client)

    async def whole(self) -> bool:
        """Let them go on, and say whether each came to its end."""
        self.go.set()
        answers = [await client.chunks() for client in self.clients]
        return answers == [(b"".join(self.words), True)] * len(self.clients)


async def test_signals_to_the_whole_group_let_streams_finish_and_end_with_0(
    serve: Serve, openai: Provider, streams: Streams
) -> None:
    gateway = await serve(one(openai), "--workers", "2")
    await streams.open(gateway, 8)
    workers = processes(gateway)

    for pid in workers:  # as Ctrl-C and systemd do it
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGHUP)
    for _ in range(2):
        gateway.signal(signal.SIGTERM)
    await gateway.says("draining")
    await refusing(gateway)
    whole = await streams.whole()

    assert len(workers) == 2
    assert whole
    assert await gateway.exited() == 0
    await gone(*workers)


async def test_a_signal_that_comes_while_workers_start_ends_them_with_0(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    held = "lambda config, post: (os.read(os.open('gate', os.O_RDONLY), 1), work(config, post))[1]"
    before = f"import os, llmproxy.supervisor as s; work = s.work; s.work = {held}"
    gateway = Command(tmp_path, MOCK, "--workers", "2", before=before)
    starting = asyncio.ensure_future(gateway.__aenter__())

    with await asyncio.to_thread(gate.open, "wb", 0) as opened:
        gateway.signal(signal.SIGTERM)
        await gateway.says("draining")
        opened.write(b"12")
        with pytest.raises(AssertionError, match="it ended"):
            await starting

    assert await gateway.exited() == 0
    assert not any("Traceback" in line for line in gateway.lines)


async def refusing(gateway: Command) -> None:
    """Return once nobody listens any more: each process closes its own end of the socket."""
    async with asyncio.timeout(20):
        while True:
            try:
                await gateway.get("/livez")
            except ConnectionRefusedError:
                return
            except (ConnectionError, EOFError):  # the last that was taken, and let go
                continue


async def test_a_second_signal_ends_the_grace_of_all(
    serve: Serve, openai: Provider, streams: Streams
) -> None:
    gateway = await serve(one(openai, '\n[server]\ngrace = "10m"\n'), "--workers", "2")
    await streams.open(gateway, 4)

    gateway.signal(signal.SIGTERM)
    await gateway.says("draining")
    await asyncio.sleep(ONCE_MORE)
    gateway.signal(signal.SIGTERM)
    endings = [await client.chunks() for client in streams.clients]

    assert all(complete and b"restart" in body for body, complete in endings)
    assert await gateway.exited() == 0


async def test_workers_do_not_outlive_their_supervisor_but_end_what_they_began(
    serve: Serve, openai: Provider, streams: Streams
) -> None:
    gateway = await serve(one(openai), "--workers", "2")
    await streams.open(gateway, 8)
    workers = processes(gateway)

    gateway.process.kill()
    await gateway.says("supervisor is gone")
    await refusing(gateway)
    whole = await streams.whole()

    assert whole
    await gone(*workers)


class Load:
    """Clients that keep their connections and ask, one request after another, until told to stop."""

    def __init__(self, gateway: Command, clients: int) -> None:
        self.answered = 0
        self.failed = 0
        self.models = ["gpt-4"]
        self._gateway = gateway
        self._over = False
        self._more = asyncio.Event()
        self._clients = [asyncio.ensure_future(self._ask()) for _ in range(clients)]

    async def reach(self, more: int) -> None:
        """Return once so many more have been answered."""
        wanted = self.answered + more
        while self.answered < wanted:
            self._more.clear()
            await self._more.wait()

    async def end(self) -> None:
        """Have each client finish what it has begun."""
        self._over = True
        await asyncio.gather(*self._clients)

    async def _ask(self) -> None:
        while not self._over:
            async with Client(self._gateway.port) as client:
                try:
                    while await self._once(client) and not self._over:
                        pass
                except (ConnectionError, EOFError):
                    self.failed += 1

    async def _once(self, client: Client) -> bool:
        """Make one request; False where the connection ends with its answer."""
        await client.post(PATH, {"model": self.models[-1], "messages": HELLO})
        answer = await client.answer()
        assert answer.complete
        assert answer.status == 200, answer.body
        self.answered += 1
        self._more.set()
        return answer.headers.get("connection") != "close"


MOCK = '[providers.mock]\nkind = "mock"\n' + model("gpt-4", "mock/m")
SUCCESS = {"provider": "mock", "status": "success"}


def exact(numbers: Numbers) -> float:
    """Return how many requests were counted, after checking that all families agree."""
    count = numbers.sum("llm_requests_total", **SUCCESS)
    assert numbers.value("llm_request_duration_seconds_count", **SUCCESS) == count
    bucket = "llm_request_duration_seconds_bucket"
    assert numbers.value(bucket, le="+Inf", **SUCCESS) == count
    return count


async def test_of_a_worker_killed_under_load_only_what_it_held_is_lost_and_sums_never_fall(
    serve: Serve,
) -> None:
    gateway = await serve(MOCK, "--workers", "2")
    load = Load(gateway, 12)
    await load.reach(100)
    before = exact(await gateway.numbers())
    first, second = processes(gateway)

    os.kill(first, signal.SIGKILL)
    await gateway.says(rf'"worker died".*"pid":{first}')
    between = exact(await gateway.numbers())
    await gateway.says(rf'"worker ready","worker":\d+,"pid":(?!{first}|{second})')
    await load.reach(100)
    after = exact(await gateway.numbers())
    await load.end()
    pages = [await gateway.numbers() for _ in range(8)]

    assert 0 < before <= between < after
    assert load.failed <= 12
    counted = {exact(page) for page in pages}
    assert len(counted) == 1  # whichever worker was asked
    # an answer may have gone out in the moment before it would have been counted
    assert load.answered - 12 <= counted.pop() <= load.answered + load.failed
    for page in pages:
        assert page.value("llm_requests_in_flight", provider="mock") == 0
        assert page.value("llm_worker_restarts_total") == 1
        assert page.value("llm_workers", state="ready") == 2
        assert page.counted("process_cpu_seconds_total").keys() == {
            frozenset({("worker", "0")}),
            frozenset({("worker", "1")}),
        }


async def test_two_gateways_on_one_host_count_apart_and_exactly(
    tmp_path: Path, serve: Serve
) -> None:
    (tmp_path / "other").mkdir()
    one = await serve(MOCK, "--workers", "2")
    async with Command(tmp_path / "other", MOCK, "--workers", "3") as other:
        for gateway, count in ((one, 30), (other, 20)):
            await asyncio.gather(*(gateway.chat() for _ in range(count)))
        # an answer is counted once its last byte has gone out
        counts = [await gateway.ended(count) for gateway, count in ((one, 30), (other, 20))]
        again = [await gateway.numbers() for gateway in (one, other) for _ in range(5)]

    assert [exact(page) for page in counts] == [30, 20]
    assert [exact(page) for page in again] == [30] * 5 + [20] * 5


async def test_a_reload_replaces_workers_one_by_one_and_fails_nobody(
    serve: Serve, openai: Provider, streams: Streams
) -> None:
    text = MOCK + provider("openai", openai.url) + model("slow", "openai/gpt-4")
    gateway = await serve(text, "--workers", "2")
    await streams.open(gateway, 4, model="slow")
    load = Load(gateway, 8)
    await load.reach(50)
    before, former = exact(await gateway.numbers()), processes(gateway)

    (gateway.folder / "gateway.toml").write_text(text + model("new", "mock/m"))
    gateway.signal(signal.SIGHUP)
    await gateway.says(r'reloaded","changes":\["models.new: added"\]')
    for _ in range(2):
        ready = rf'"worker ready","worker":\d+,"pid":(?!{"|".join(map(str, former))})(\d+)'
        former.append(int((await gateway.says(ready))[1]))
    load.models.append("new")
    await load.reach(50)
    after = exact(await gateway.numbers())
    await load.end()
    whole = await streams.whole()
    await gone(*former[:2])
    numbers = await gateway.ended(load.answered + 4)

    assert load.failed == 0
    assert whole
    assert before < after
    assert exact(numbers) == load.answered
    assert numbers.value("llm_config_reload_total", result="success") == 1
    assert numbers.value("llm_worker_restarts_total") == 0
    async with asyncio.timeout(20):  # the seats of those that have gone are empty
        while len((await gateway.numbers()).counted("process_cpu_seconds_total")) > 2:
            pass
    assert set(processes(gateway)) == set(former[2:])


async def test_a_reload_of_what_has_not_changed_replaces_nobody(serve: Serve) -> None:
    gateway = await serve(MOCK, "--workers", "2")
    workers = processes(gateway)

    gateway.signal(signal.SIGHUP)
    await gateway.says(r'reloaded","changes":\[\]')

    assert processes(gateway) == workers
    numbers = await gateway.numbers()
    assert numbers.value("llm_config_reload_total", result="success") == 1


async def test_a_worker_that_dies_gets_the_seat_that_a_reload_waits_for(
    tmp_path: Path, serve: Serve, openai: Provider, streams: Streams
) -> None:
    few = "import llmproxy.supervisor; llmproxy.supervisor.SEATS = 1"  # as if others were leaving
    (tmp_path / "sitecustomize.py").write_text(few)
    text = one(openai)
    gateway = await serve(text, "--workers", "2", PYTHONPATH=f"{tmp_path}:{ROOT}")
    await streams.open(gateway, 8)  # who leaves takes its time
    _, last = processes(gateway)

    (gateway.folder / "gateway.toml").write_text(text + model("new", "openai/gpt-4"))
    gateway.signal(signal.SIGHUP)
    os.kill(last, signal.SIGKILL)
    async with asyncio.timeout(20):
        while not (await gateway.numbers()).value("llm_worker_restarts_total"):
            pass
        while (numbers := await gateway.numbers()).value("llm_workers", state="ready") != 2:
            pass

    assert numbers.value("llm_workers", state="leaving") == 0


async def test_what_the_supervisor_says_waits_for_a_slow_reader_of_the_log(serve: Serve) -> None:
    gateway = await serve(MOCK, "--workers", "2")
    gateway.reads.clear()
    load = Load(gateway, 8)
    await load.reach(3000)  # their lines are many times what the pipe and the reader hold

    (gateway.folder / "gateway.toml").write_text(MOCK + model("new", "mock/m"))
    gateway.signal(signal.SIGHUP)
    async with asyncio.timeout(20):
        while not (await gateway.numbers()).value("llm_config_reload_total", result="success"):
            pass
    gateway.reads.set()
    await gateway.says(r'reloaded","changes":\["models.new: added"\]')
    await load.end()

    assert load.failed == 0
    ready = [line for line in gateway.lines if '"worker ready"' in line]
    assert len(set(ready)) == len(ready) == 4  # none comes from two processes
    numbers = await gateway.numbers()
    assert not numbers.value("llm_log_lines_lost_total", reason="queue_full")


async def test_in_a_storm_of_signals_none_is_lost(serve: Serve) -> None:
    gateway = await serve(MOCK, "--workers", "2")
    file = gateway.folder / "gateway.toml"
    file.unlink()
    os.mkfifo(file)  # whoever reads it has no time for signals

    gateway.signal(signal.SIGHUP)
    with await asyncio.to_thread(file.open, "w"):
        for _ in range(20_000):
            gateway.signal(signal.SIGHUP)
        gateway.signal(signal.SIGTERM)
        await gateway.says("draining")

    assert await gateway.exited() == 0


ADMIN = '[admin]\nport = 0\nkey = "env:OPERATORS_KEY"\n'


async def test_a_reload_asked_of_any_worker_answers_with_what_came_of_it(serve: Serve) -> None:
    gateway = await serve(ADMIN + MOCK, "--workers", "2")
    port = int((await gateway.says(r'"admin","url":"http://127.0.0.1:(\d+)'))[1])
    workers, file = processes(gateway), gateway.folder / "gateway.toml"
    key = {"authorization": "Bearer sk-operators-key"}

    file.write_text(ADMIN + MOCK + "[retry]\nmax_atempts = 1\n")
    bad = await asyncio.gather(*(ask(port, "/admin/reload", {}, key) for _ in range(4)))
    unchanged = processes(gateway)
    moved = ADMIN.replace("port = 0", "port = 1")
    file.write_text(moved + MOCK + '[logging]\nlevel = "error"\n')
    async with Client(gateway.port) as idle:  # one worker leaves later than the other
        await idle.send(request("GET", "/livez"))
        await idle.answer()
        good = await asyncio.gather(*(ask(port, "/admin/reload", {}, key) for _ in range(4)))

    assert {answer.status for answer in bad} == {422}
    assert all(b"retry.max_atempts: unknown key" in answer.body for answer in bad)
    assert unchanged == workers
    # those that came while one was under way are answered by the next, which finds nothing new
    assert {answer.status for answer in good} == {200}
    told = [answer.json for answer in good]
    assert {"changes": ['logging.level: "info" → "error"'], "needs_restart": MOVED} in told
    assert all(one["needs_restart"] == MOVED for one in told)
    await gone(*workers)


MOVED = ["admin.port: 0 → 1"]


BROKEN = """
import llmproxy.supervisor

work = llmproxy.supervisor.work
llmproxy.supervisor.work = lambda config, post: 3 if config.server.grace == 7 else work(config, post)
"""
WITH_BROKEN = MOCK + "[server]\ngrace = 7\n"


@pytest.fixture
def broken(tmp_path: Path) -> dict[str, str]:
    """An environment in which workers die at their start where the grace is seven seconds."""
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    return {"PYTHONPATH": f"{tmp_path}:{ROOT}"}


async def test_a_configuration_with_which_no_worker_starts_leaves_the_old_ones_serving(
    serve: Serve, broken: dict[str, str]
) -> None:
    gateway = await serve(MOCK, "--workers", "2", "--watch", **broken)
    workers = processes(gateway)

    (gateway.folder / "gateway.toml").write_text(WITH_BROKEN)
    await gateway.says("no worker could start with it")
    between, answered = processes(gateway), await gateway.chat()
    (gateway.folder / "gateway.toml").write_text(MOCK + model("new", "mock/m"))
    await gateway.says('"configuration reloaded"')
    later = await gateway.chat("new")

    assert between == workers
    assert (answered.status, later.status) == (200, 200)
    numbers = await gateway.numbers()
    assert numbers.value("llm_config_reload_total", result="failure") == 1
    assert numbers.value("llm_config_reload_total", result="success") == 1


async def test_workers_that_die_at_their_start_end_the_gateway_with_1(
    tmp_path: Path, broken: dict[str, str]
) -> None:
    gateway = Command(tmp_path, WITH_BROKEN, "--workers", "2", env=broken)

    with pytest.raises(AssertionError, match="it ended"):
        await gateway.__aenter__()

    assert await gateway.exited() == 1
    assert sum("worker died" in line for line in gateway.lines) >= 3
    assert any("no worker can start" in line for line in gateway.lines)


async def test_a_worker_that_hangs_is_replaced(openai: Provider, tmp_path: Path) -> None:
    before = "import llmproxy.supervisor as s; s.HANGS = 2.0"
    async with Command(tmp_path, one(openai), "--workers", "2", before=before) as gateway:
        hanging, other = processes(gateway)
        os.kill(hanging, signal.SIGSTOP)
        await gateway.says(r"worker hangs")
        await gone(hanging)
        while (await gateway.numbers()).value("llm_worker_restarts_total") != 1:
            pass

        assert other in processes(gateway)
        assert len(processes(gateway)) == 2


async def test_the_gateway_s_own_start_is_told_beside_its_workers(
    openai: Provider, tmp_path: Path
) -> None:
    async with Command(tmp_path, one(openai), "--workers", "2") as gateway:
        numbers = await gateway.numbers()
        first, *others = (
            numbers.value("process_start_time_seconds", **labels)
            for labels in ({}, {"worker": "0"}, {"worker": "1"})
        )

        assert first is not None
        assert all(other is not None and other >= first for other in others)
