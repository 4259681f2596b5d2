"""
Several workers behind one port, as one gateway.

Theory of operation. The supervisor opens the listening sockets, forks the workers, which inherit
them, and from then on carries no traffic: it waits for signals, for the end of workers, and for
what they say on their channels. It has no event loop and no thread, since it forks; each turn of
its loop looks at what is due, and nothing in it waits for a worker.

    worker    starting → ready → (leaving) → gone
              one that is not ready in time, does not leave in time, or hangs is killed; time
              counts in which the supervisor's own loop goes round
    place     has one worker that is starting or ready; who leaves has given its place up
    seat      a worker's number, free again once it is gone: there are more seats than places,
              since a worker that leaves may take its time

A worker that ends by itself is replaced at once, and then ever more slowly while those in its place
die soon after their start. If none has ever become ready, three deaths end the gateway: it would
not be better the fourth time.

A reload reads the configuration here, within a time limit, and if it has changed replaces one worker
after another: the new one is ready before the old one leaves. If the first does not become ready the old
configuration stays; afterwards it comes to all, whatever happens to single workers. It is said to be
done when nobody can ask an old worker anything more. Addresses do not change, for the sockets are
open.

SIGTERM and SIGINT have all workers drain, a later one ends their grace. When the supervisor itself
is gone its channels end, and the workers drain: nothing is left behind.
"""

import gc
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import FrameType

from .app import new_mark
from .config.diff import Change, changes
from .config.schema import Config
from .config_files import LOOK, PATIENCE, FileWatcher
from .core.errors import ConfigError
from .core.exchange import Json
from .host.channel import Channel
from .host.memory import Host, Memory
from .plan import check_doors, tell_reload
from .serve import (
    ADMIN_PORT,
    API_PORT,
    BACKLOG,
    FAILED,
    LAST_WORDS,
    StopSignals,
    announce,
    cannot_listen,
    loop_factory,
    url_of,
)
from .server.services import Reloaded
from .telemetry.log import event, rendering
from .telemetry.metrics.ledger import ticks_of, vacate
from .telemetry.metrics.record import Attendance
from .telemetry.writers import DirectWriter
from .worker import LAST_ANSWER, WIND_DOWN, Post, work

logger = logging.getLogger(__name__)

SEATS = 4  # for each worker: it and its successor, and those that leave slowly
SOON = 5.0  # seconds after the start: who dies within them is replaced more slowly each time
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
HOPELESS = 3  # deaths without any worker having become ready
START_TIME = 30.0  # seconds until a worker has to be ready
SLACK = 5.0  # seconds, over what a worker may take to leave
HANGS = 20.0  # seconds for which a worker's event loop may stand still
TURN = 1.0  # seconds that a turn of the loop waits at most, to look at the workers again
STOPPING = frozenset({signal.SIGTERM, signal.SIGINT})
HEARD = (*STOPPING, signal.SIGHUP, signal.SIGCHLD)


@dataclass(slots=True, eq=False)
class Worker:
    """A process; `gone_by` is when it is killed if it is still there."""

    seat: int
    pid: int
    channel: Channel
    config: Config
    started: float
    gone_by: float
    ready: bool = False
    leaving: bool = False
    ticks: float = 0.0
    silent: float = 0.0  # seconds since its event loop last went round


@dataclass(slots=True, eq=False)
class Place:
    """Where one worker should be; the next may start when it is `due`."""

    worker: Worker | None = None
    died: bool = False  # the last one did, and has no successor yet
    deaths: int = 0  # in a row, each soon after the start
    due: float = 0.0


@dataclass(slots=True, eq=False)
class Roll:
    """A configuration on its way to all places; `asked` is who waits to hear of it."""

    config: Config
    result: Reloaded
    asked: list[tuple[Channel, int]]
    begun: bool = False  # its first worker was ready: there is no way back
    former: set[int] = field(default_factory=set)  # who may still be asked something, with the old
    starting: Worker | None = None
    place: Place | None = None


@dataclass(slots=True, eq=False)
class Doors:
    """The sockets that are listened on, of the API and of the operators' side."""

    api: list[socket.socket] = field(default_factory=list)
    admin: list[socket.socket] = field(default_factory=list)

    def close(self) -> None:
        """Listen no more, as far as this process is concerned."""
        for door in (*self.api, *self.admin):
            door.close()


class TooLong(BaseException):
    """The time for reading the configuration is over, or the gateway is to stop."""


def run(
    config: Config,
    load: Callable[[], Config],
    watcher: FileWatcher | None = None,
    *,
    workers: int,
) -> int:
    """
    Serve with so many workers until told to stop; gives the exit status.

    It is 0, or 1 when the gateway cannot listen or no worker can start. `load` reads the
    configuration again, also when `watcher`, through which it reads, notices a change.
    """
    log = config.logging
    level = logging.getLevelNamesMapping()[log.level.upper()]
    writer = DirectWriter(sys.stderr.fileno(), rendering(log.format, sys.stderr), level)
    doors = Doors()
    try:
        if not _open(doors, config):
            return FAILED
        return Supervisor(config, load, watcher, writer, doors, workers=workers).run()
    finally:
        doors.close()
        writer.close()


def _open(doors: Doors, config: Config) -> bool:
    """Listen at all addresses; or say which of them cannot be."""
    wanted = [(doors.api, config.server.host, config.server.port, API_PORT)]
    if config.admin.key is not None:
        wanted.append((doors.admin, config.admin.host, config.admin.port, ADMIN_PORT))
    for opened, host, port, option in wanted:
        try:
            for family, kind, protocol, _, address in socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                door = socket.socket(family, kind, protocol)
                opened.append(door)
                door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                door.bind(address)
                door.listen(BACKLOG)
                door.setblocking(False)
        except OSError as error:
            cannot_listen(host, port, option, error)
            return False
    return True


class Supervisor:
    """Keeps so many workers serving."""

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        watcher: FileWatcher | None,
        writer: DirectWriter,
        doors: Doors,
        *,
        workers: int,
    ) -> None:
        self._initial = self._config = config
        self._load = load
        self._watcher = watcher
        self._writer = writer
        self._doors = doors
        self._places = [Place() for _ in range(workers)]
        self._seats = range(workers * SEATS)
        self._workers: dict[int, Worker] = {}  # by their process id
        self._memory = Memory(len(self._seats) + 1)  # the last one is the supervisor's own
        self._attendance = Attendance(Host(self._memory, len(self._seats)))
        self._via = new_mark()
        self._stopping = False
        self._stops = StopSignals()
        self._listening = False
        self._served = False  # some worker was ready once
        self._deaths = 0  # before that
        self._roll: Roll | None = None
        self._asked: list[tuple[Channel, int]] = []
        self._reload_wanted = False
        self._loading = False
        self._look_due = time.monotonic() + LOOK
        self._turned = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._asks_for_room = False
        self._signals: list[int] = []  # that came, and were not obeyed yet
        self._wakeup, self._woken = socket.socketpair()
        self._wakeup.setblocking(False)
        self._woken.setblocking(False)

    def run(self) -> int:
        """Serve until told to stop; gives the exit status."""
        loop_factory()  # what it imports is imported once
        gc.collect()
        gc.freeze()  # what the workers have in common stays in common
        with self._listening_to_signals(), self._selector:
            self._selector.register(self._woken, selectors.EVENT_READ)
            while self._workers or not self._stopping:
                if self._deaths >= HOPELESS and not self._stopping:
                    event(logger, logging.ERROR, "no worker can start", deaths=self._deaths)
                    self._stop()
                    continue
                self._turn(time.monotonic())
        if self._deaths >= HOPELESS:
            return FAILED
        event(logger, logging.INFO, "stopped")
        return 0

    def _turn(self, now: float) -> None:
        """Do what is due, and wait for the next thing to happen."""
        if not self._stopping:
            self._watch(now)
            for place in self._places:
                if place.worker is None and now >= place.due:
                    place.worker = self._start(self._config)
                    if place.died and place.worker is not None:
                        place.died = False
                        self._attendance.restarted()
            self._roll_on(now)
        self._feel_pulses(now, self._passed(now))
        for worker in self._workers.values():
            if now >= worker.gone_by:
                event(logger, logging.ERROR, "worker killed", worker=worker.seat, pid=worker.pid)
                worker.gone_by = now + SLACK
                os.kill(worker.pid, signal.SIGKILL)
        self._count()
        self._ask_for_room()
        for key, _ in self._selector.select(self._patience()):
            if key.data is not None:
                self._listen_to(key.data)
        self._writer.flush()
        self._hear()

    def _passed(self, now: float) -> float:
        """
        Give the seconds since the last turn that count; for the rest workers get more time.

        The whole gateway may have been suspended, or the loop have waited for a configuration.
        """
        since, self._turned = now - self._turned, now
        lost = max(0.0, since - TURN)
        for worker in self._workers.values():
            worker.gone_by += lost
        return since - lost

    def _feel_pulses(self, now: float, passed: float) -> None:
        """Have workers killed whose event loop has stood still for too long."""
        for worker in self._workers.values():
            ticks = ticks_of(self._memory.seat(worker.seat).numbers)
            moved = ticks != worker.ticks or not worker.ready
            worker.ticks = ticks
            worker.silent = 0.0 if moved else worker.silent + passed
            if worker.silent >= HANGS:
                worker.silent = 0.0
                worker.gone_by = now
                event(logger, logging.ERROR, "worker hangs", worker=worker.seat, pid=worker.pid)

    def _count(self) -> None:
        """Show how many workers there are, and what they are doing."""
        states = dict.fromkeys(("starting", "ready", "leaving"), 0)
        for worker in self._workers.values():
            states["leaving" if worker.leaving else "ready" if worker.ready else "starting"] += 1
        self._attendance.workers(states)
        self._attendance.lost(self._writer.lost())

    def _ask_for_room(self) -> None:
        """Be woken when there is room for what the log could not take, if there is any."""
        if self._writer.waiting is self._asks_for_room:
            return
        self._asks_for_room = self._writer.waiting
        if self._asks_for_room:
            self._selector.register(self._writer, selectors.EVENT_WRITE)
        else:
            self._selector.unregister(self._writer)

    def _patience(self) -> float:
        """Give the seconds until something is due, or to look again for a free seat."""
        due = [worker.gone_by for worker in self._workers.values()]
        due += [place.due for place in self._places if place.worker is None or self._roll]
        now = time.monotonic()
        return min(TURN, *(one - now for one in due if one > now))

    # -- signals

    @contextmanager
    def _listening_to_signals(self) -> Iterator[None]:
        former = {number: signal.signal(number, self._interrupt) for number in HEARD}
        former[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._interrupt)
        wakeup = signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in former.items():
                signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Note the signal, which wakes the loop; and end a read that takes too long."""
        self._signals.append(number)
        if self._loading and number in (*STOPPING, signal.SIGALRM):
            self._loading = False
            raise TooLong

    def _hear(self) -> None:
        """Obey what was signalled; the bytes only wake, for the last ones of a storm are lost."""
        with suppress(BlockingIOError):
            self._woken.recv(4096)
        signals, self._signals = self._signals, []
        for number in signals:
            if number == signal.SIGCHLD:
                self._reap()
            elif number in STOPPING:
                hurries = self._stops.hurries(time.monotonic())
                if hurries or not self._stopping:
                    self._stop()
            elif number == signal.SIGHUP:
                self._reload_wanted = True

    def _stop(self) -> None:
        """Have all workers drain; when they do so already, end their grace."""
        order = "hurry" if self._stopping else "stop"
        if not self._stopping:
            self._stopping = True
            event(logger, logging.INFO, "draining", grace_s=self._config.server.grace)
            self._doors.close()
            if self._roll is not None:
                self._asked += self._roll.asked
                self._roll = None
            self._answer(self._asked, Reloaded(problems=("the gateway is stopping",)))
        for worker in self._workers.values():
            self._send_away(worker, order)

    # -- workers

    def _start(self, config: Config) -> Worker | None:
        """Fork a worker; None where no seat is free, or no process to be had."""
        taken = {worker.seat for worker in self._workers.values()}
        seat = next((one for one in self._seats if one not in taken), None)
        if seat is None:
            return None
        ours, its = Channel.pair()
        now = time.monotonic()
        former = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker(config, seat, ours, its)
        except OSError as error:
            event(logger, logging.ERROR, "no worker forked", reason=error.strerror)
            ours.close()
            self._put_off(now)
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
            its.close()
        worker = Worker(seat, pid, ours, config, now, now + START_TIME)
        self._workers[pid] = worker
        self._selector.register(ours, selectors.EVENT_READ, worker)
        event(logger, logging.DEBUG, "worker starting", worker=seat, pid=pid)
        return worker

    def _become_worker(self, config: Config, seat: int, ours: Channel, its: Channel) -> None:
        """Be a worker, in the process that was forked for it; does not return."""
        status = FAILED
        try:
            for number in (*STOPPING, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            for number in (signal.SIGCHLD, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
            # other workers' channels have to end with the supervisor, not with this one
            for one in (ours, self._selector, self._wakeup, self._woken):
                one.close()
            for worker in self._workers.values():
                worker.channel.close()
            self._writer.drop()
            self._writer.close()
            status = work(
                config,
                Post(
                    host=Host(self._memory, seat),
                    channel=its,
                    doors=self._doors.api,
                    admin_doors=self._doors.admin,
                    via=self._via,
                ),
            )
        except BaseException:  # noqa: BLE001  # nothing of it may run on as a second supervisor
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    def _put_off(self, now: float) -> None:
        for place in self._places:
            if place.worker is None:
                place.due = max(place.due, now + FIRST_WAIT)

    def _listen_to(self, worker: Worker) -> None:
        if worker.pid not in self._workers:
            return  # reaped in this very turn
        messages = worker.channel.receive()
        if messages is None:  # it is dead, or as good as that
            self._selector.unregister(worker.channel)
            self._kill_if_there(worker)
            return
        for message in messages:
            if message.get("is") == "ready":
                self._is_ready(worker)
            elif message.get("is") == "left":
                self._has_left(worker)
            elif message.get("ask") == "reload":
                self._asked.append((worker.channel, message["as"]))
                self._reload_wanted = not self._stopping
                if self._stopping:
                    self._answer(self._asked, Reloaded(problems=("the gateway is stopping",)))

    def _is_ready(self, worker: Worker) -> None:
        worker.ready = self._served = True
        self._deaths = 0
        if not worker.leaving:
            worker.gone_by = float("inf")
        event(logger, logging.INFO, "worker ready", worker=worker.seat, pid=worker.pid)
        if not (self._listening or self._stopping) and all(
            place.worker is not None and place.worker.ready for place in self._places
        ):
            self._listening = True
            if self._doors.admin:
                event(logger, logging.INFO, "admin", url=_url(self._doors.admin))
            announce(_url(self._doors.api), self._config, workers=len(self._places))

    def _has_left(self, worker: Worker) -> None:
        if self._roll is not None:
            self._roll.former.discard(worker.pid)

    def _kill_if_there(self, worker: Worker) -> None:
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if (worker := self._workers.pop(pid, None)) is not None:
                self._has_gone(worker, status)

    def _has_gone(self, worker: Worker, status: int) -> None:
        now = time.monotonic()
        self._has_left(worker)
        self._memory.vacate(worker.seat)
        vacate(self._memory.seat(worker.seat).numbers)
        with suppress(KeyError, ValueError):
            self._selector.unregister(worker.channel)
        worker.channel.close()
        event(
            logger,
            logging.INFO if worker.leaving else logging.ERROR,
            "worker gone" if worker.leaving else "worker died",
            worker=worker.seat,
            pid=worker.pid,
            status=os.waitstatus_to_exitcode(status),
            after_s=round(now - worker.started, 1),
        )
        if worker.leaving:
            return
        self._deaths += not self._served
        roll = self._roll
        if roll is not None and roll.starting is worker:
            self._roll_failed(roll, now)
        for place in self._places:
            if place.worker is worker:
                place.worker, place.died = None, True
                self._slow_down(place, worker, now)

    def _slow_down(self, place: Place, worker: Worker, now: float) -> None:
        """Say when the next one may start in the place of a worker that died."""
        place.deaths = place.deaths + 1 if now - worker.started < SOON else 0
        wait = FIRST_WAIT * 2.0 ** (place.deaths - 2)
        place.due = now if place.deaths < 2 else now + min(wait, LONGEST_WAIT)

    def _send_away(self, worker: Worker, order: str) -> None:
        """Tell it to leave, to stop or to hurry; it is killed when it does not in time."""
        worker.leaving = True
        grace = 0.0 if order == "hurry" else worker.config.server.grace
        time_needed = grace + LAST_WORDS + SLACK
        if order == "leave":  # else all who asked for a reload have been answered
            time_needed += WIND_DOWN + LAST_ANSWER
        worker.gone_by = min(worker.gone_by, time.monotonic() + time_needed)
        worker.channel.send({"do": order})

    # -- reloading

    def _watch(self, now: float) -> None:
        """Want a reload when the files of the configuration have changed."""
        if self._watcher is not None and now >= self._look_due:
            self._look_due = now + LOOK
            self._reload_wanted |= self._watcher.changed()

    def _roll_on(self, now: float) -> None:
        """Begin a reload that is wanted, or take the one under way a step further."""
        roll = self._roll
        if roll is None:
            if not self._reload_wanted or not self._served:
                return
            roll = self._read_again()
            if roll is None:
                return
            self._roll = roll
        if roll.starting is None:
            self._replace_next(roll, now)
        elif roll.starting.ready:
            self._take_over(roll)

    def _replace_next(self, roll: Roll, now: float) -> None:
        """Start a worker for a place that has an old one; the roll ends when there is none."""
        old = [
            place
            for place in self._places
            if place.worker is None or place.worker.config is not roll.config
        ]
        if not old:
            if not roll.former:
                self._roll = None
                self._told(roll.result)
                self._answer(roll.asked, roll.result)
            return
        free = len(self._seats) - len(self._workers)
        if free <= sum(place.worker is None for place in self._places):
            return  # those come first, with what is then in force: later
        for place in old:
            if place.worker is not None and now >= place.due:
                roll.place, roll.starting = place, self._start(roll.config)
                return

    def _take_over(self, roll: Roll) -> None:
        place, worker = roll.place, roll.starting
        assert place is not None
        assert worker is not None
        former, place.worker, place.deaths = place.worker, worker, 0
        roll.starting = roll.place = None
        if former is not None:
            roll.former.add(former.pid)
            self._send_away(former, "leave")
        if not roll.begun:
            roll.begun = True
            self._config = roll.config
            for warning in roll.config.warnings:
                event(logger, logging.WARNING, "configuration", warning=warning)
        self._replace_next(roll, time.monotonic())

    def _roll_failed(self, roll: Roll, now: float) -> None:
        """Go on after the death of a worker that was to become ready, or give the roll up."""
        worker, place = roll.starting, roll.place
        assert worker is not None
        assert place is not None
        roll.starting = roll.place = None
        if roll.begun:
            self._slow_down(place, worker, now)
            return
        self._roll = None
        result = Reloaded(problems=("no worker could start with it: the log says why",))
        self._told(result)
        self._answer(roll.asked, result)

    def _read_again(self) -> Roll | None:
        """Give what the configuration has become on its way; None where it is bad, or as it was."""
        self._reload_wanted = False
        asked, self._asked = self._asked, []
        try:
            read = self._loaded()
            if read is None:  # the gateway is to stop
                self._asked = asked
                return None
            check_doors(self._initial, read)
        except (ConfigError, OSError) as error:  # OSError: a file that has gone since
            reasons = error.problems if isinstance(error, ConfigError) else (str(error),)
            result = Reloaded(problems=tuple(reasons))
            self._told(result)
            self._answer(asked, result)
            return None
        config = _at_old_addresses(self._initial, read)
        result = Reloaded(
            changes=_texts(changes(self._config, config)),
            at_start=_texts(changes(config, read)),
        )
        if config == self._config:
            self._told(result)
            self._answer(asked, result)
            return None
        return Roll(config, result, asked)

    def _loaded(self) -> Config | None:
        """
        Read the configuration; None where the gateway was told to stop meanwhile.

        Raises ConfigError, also where it takes too long: a pipe, a network share.
        """
        ends_by = time.monotonic() + PATIENCE
        try:
            self._loading = True
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
            config = self._load()
            self._loading = False
        except TooLong as error:
            if time.monotonic() < ends_by:
                return None
            raise ConfigError([f"it could not be read within {PATIENCE:g} s"]) from error
        finally:
            self._loading = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        return config

    def _told(self, result: Reloaded) -> None:
        self._attendance.reloaded("failure" if result.problems else "success")
        tell_reload(result)

    def _answer(self, asked: list[tuple[Channel, int]], result: Reloaded) -> None:
        for channel, number in asked:
            message: Json = {"reloaded": number}
            message |= {"problems": result.problems, "changes": result.changes}
            message |= {"at_start": result.at_start}
            channel.send(message)
        asked.clear()


def _at_old_addresses(initial: Config, read: Config) -> Config:
    """Give the configuration with the sockets and the number of workers that there are."""
    server, admin = initial.server, initial.admin
    opened = (admin.key is None) == (read.admin.key is None)
    return replace(
        read,
        server=replace(read.server, host=server.host, port=server.port, workers=server.workers),
        admin=replace(
            read.admin,
            host=admin.host,
            port=admin.port,
            key=read.admin.key if opened else admin.key,
        ),
    )


def _texts(told: Sequence[Change]) -> tuple[str, ...]:
    return tuple(str(one) for one in told)


def _url(doors: Sequence[socket.socket]) -> str:
    return url_of(doors[0].getsockname())
