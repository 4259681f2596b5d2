"""
A second target is asked while the first is silent; whoever speaks first is heard.

Theory of operation. The request fails over along its route in the handler's own task, as always.
A timer looks whether the target at hand has been silent for longer than most of its answers took
(a quantile of the latest of them, or a configured delay until enough are known). If so it starts
a branch, once: a task of its own, with a copy of the record and a watch of its own, that asks one
more target. The branch pays from that provider's retry budget, takes a place and a permit there
like any attempt, and passes over whoever has been asked, cools, is full or has an open circuit.
Whom it asks is left out by the failover.

    the failover has a reply, or   the branch is cut off as superseded
    a failure that no other target
    would mend
    the branch has a reply         the failover is cut off as superseded, by its watch
    the branch fails               the failover goes on
    the failover's route is spent  the branch goes on; when it fails too, the client is told of
                                   the failure that tells most
    the failover ends otherwise    the branch is cut off with the same error: the client's
                                   deadline, a client that left, a gateway that stops

What is cut off breaks its connection and settles all that it holds, at once: tokens cost money.
The branch has ended, and its attempts stand in the exchange, before `open` returns or raises.

A plain answer speaks when it is complete. The time of an attempt that was superseded is remembered
like any other, as the least that it would have taken: else a target that has become slow would
never be known to be, and be hedged until the budget is spent.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from ..core.errors import (
    AllAttemptsFailed,
    LLMProxyError,
    NotExpressible,
    Refused,
    ShuttingDown,
    Superseded,
    UpstreamError,
    without_frames,
)
from ..core.exchange import Exchange, Hedging, Outcome, Target
from ..core.reply import Reply, Send
from .budget import RetryBudget
from .cooldown import Cooldowns
from .deadline import has_time
from .failover import failover, most_telling
from .last_resort import LastResort
from .latency import Latencies
from .watch import Watch, Watches


class Hedges:
    """Opens the exchanges whose route has a hedge; `sends` and `budgets` are by provider."""

    def __init__(
        self,
        *,
        sends: Mapping[str, Send],
        budgets: Mapping[str, RetryBudget],
        cooldowns: Cooldowns,
        latencies: Latencies,
        watches: Watches,
    ) -> None:
        self.sends = sends
        self.budgets = budgets
        self.cooldowns = cooldowns
        self.latencies = latencies
        self.watches = watches

    async def open(
        self,
        exchange: Exchange,
        targets: Sequence[Target],
        policy: Hedging,
        last_resort: Callable[[Exchange], LastResort],
    ) -> Reply:
        """
        Give the first reply that a target brings; the caller closes it.

        Raises what `failover` raises.
        """
        watch = exchange.watch
        assert watch is not None
        branch = Branch(self, exchange, targets, policy)
        reply: Reply | None = None
        error: BaseException | None = None
        try:
            reply = await failover(
                exchange,
                targets,
                sends=self.sends,
                cooldowns=self.cooldowns,
                last_resort=last_resort,
                clock=self.watches.time,
                taken=branch.asked,
            )
        except BaseException as raised:  # noqa: BLE001  # raised again, below
            error = watch.claim(raised)
        branch.lose_sight()
        if branch.task is not None:
            reply, error = await _decide(exchange, branch, reply, error)
        self._learn(exchange)
        if reply is not None:
            return reply
        assert error is not None
        try:
            raise error
        finally:
            del error  # its frames, this one among them, hold the request's body

    def delay(self, target: Target, stream: bool, policy: Hedging) -> float | None:
        """Give the seconds of silence after which `target` is slow; None where nobody knows."""
        learned = self.latencies.quantile(target, stream, policy.quantile, least=policy.min_samples)
        seconds = policy.initial_delay if learned is None else learned
        return None if seconds is None else max(policy.min_delay, seconds)

    def _learn(self, exchange: Exchange) -> None:
        """Remember how long the targets took to speak, or were silent until another spoke."""
        for attempt in exchange.attempts:
            spoke = attempt.first_frame
            if spoke is None and attempt.outcome is Outcome.SUPERSEDED:
                spoke = attempt.ended
            if spoke is not None:
                self.latencies.add(attempt.target, exchange.stream, spoke - attempt.started)


class Branch:
    """
    The second call of one exchange, if it comes to it.

    `asked` has whom it asks or has asked, `task` does that. When the task has ended there is
    a `reply`, or there are `causes` why not.
    """

    def __init__(
        self, hedges: Hedges, exchange: Exchange, targets: Sequence[Target], policy: Hedging
    ) -> None:
        self.asked: set[Target] = set()
        self.task: asyncio.Task[None] | None = None
        self.exchange: Exchange | None = None
        self.reply: Reply | None = None
        self.causes: list[LLMProxyError] = []
        self._hedges = hedges
        self._first = exchange
        self._targets = targets
        self._policy = policy
        self._racing = True
        watches = hedges.watches
        self._timer = watches.call_at(watches.time() + policy.min_delay, self._look)

    def lose_sight(self) -> None:
        """Look at the failover no more, nor cut it off: it has ended."""
        self._racing = False
        self._timer.cancel()

    async def end(self, error: BaseException | None) -> BaseException | None:
        """
        Return when the task has ended; it is cut off with `error`, if there is one.

        Gives the error that ended the wait, and with it the task: the client left, the gateway
        stops.
        """
        watch = self._first.watch
        assert watch is not None
        assert self.task is not None
        stopped: BaseException | None = None
        if error is not None:
            self._cut(error)
        while not self.task.done():
            try:
                await asyncio.wait((self.task,))
            except asyncio.CancelledError as raised:
                stopped = watch.claim(raised)
                self._cut(stopped)
        return stopped

    def _look(self) -> None:
        """Start if the target at hand has been silent for too long, else look again."""
        watches = self._hedges.watches
        now = watches.time()
        due = now + self._policy.min_delay
        if attempts := self._first.attempts:
            latest = attempts[-1]
            delay = self._hedges.delay(latest.target, self._first.stream, self._policy)
            if delay is not None:
                due = latest.started + delay
        if due > now:
            self._timer = watches.call_at(due, self._look)
        else:
            self.exchange = self._first.branch()
            self.task = asyncio.get_running_loop().create_task(self._run(self.exchange))

    async def _run(self, exchange: Exchange) -> None:
        first = self._first.watch
        assert first is not None
        with Watch(self._hedges.watches) as watch:
            exchange.watch = watch
            try:
                self.reply = await self._ask(exchange)
            except (LLMProxyError, asyncio.CancelledError) as raised:
                watch.claim(raised)  # whoever cut it off knows why
        if self.reply is not None and self._racing:
            first.interrupt(superseded(self.reply.target))

    async def _ask(self, exchange: Exchange) -> Reply | None:
        hedges = self._hedges
        now = hedges.watches.time()
        if not has_time(exchange.deadline, now):
            return None
        for target in self._askable(now):
            budget = hedges.budgets[target.provider]
            if not budget.take(now):
                continue
            self.asked.add(target)
            try:
                return await hedges.sends[target.provider](exchange, target)
            except ShuttingDown:
                raise
            except (Refused, NotExpressible) as error:
                exchange.pass_over(target, without_frames(error))
                if exchange.attempts:  # its circuit opened before a repeat
                    self.causes.append(error)
                    return None
                budget.give_back(now)
                self.asked.clear()
            except UpstreamError as error:
                self.causes.append(without_frames(error))
                return None
        return None

    def _askable(self, now: float) -> list[Target]:
        attempted = {attempt.target for attempt in self._first.attempts}
        free = self._hedges.cooldowns.any_free
        return [
            target for target in self._targets if target not in attempted and free(target, (), now)
        ]

    def _cut(self, error: BaseException) -> None:
        assert self.task is not None
        assert self.exchange is not None
        if self.exchange.watch is None:  # it has not begun
            self.task.cancel()
        else:
            self.exchange.watch.interrupt(error)


def superseded(target: Target) -> Superseded:
    """Give the error that ends an attempt beside `target`, which spoke first."""
    return Superseded(f"{target.provider} answered first")


async def _decide(
    exchange: Exchange, branch: Branch, reply: Reply | None, error: BaseException | None
) -> tuple[Reply | None, BaseException | None]:
    """Let the branch end after the failover; give the reply that is heard, or what is told."""
    assert branch.exchange is not None
    assert branch.task is not None
    cut = None if _may_mend(error) else error
    if reply is not None or isinstance(cut, AllAttemptsFailed):
        cut = superseded(exchange.attempts[-1].target)
    stopped = await branch.end(cut)
    if stopped is None and not branch.task.cancelled():
        stopped = branch.task.exception()  # a fault of ours
    if stopped is not None and reply is not None:
        reply.close(stopped)
        reply = None
    over = stopped or cut
    if over is not None and branch.reply is not None:
        branch.reply.close(over)
    exchange.join(branch.exchange)
    for attempt in exchange.attempts:
        if isinstance(attempt.error, Superseded):  # kept for as long as the answer flows
            without_frames(attempt.error)
    if over is not None:
        return reply, stopped or error
    if branch.reply is not None:
        return branch.reply, None
    assert isinstance(error, AllAttemptsFailed)
    if not branch.causes:
        return None, error
    causes = (*error.causes, *branch.causes)
    return None, AllAttemptsFailed(most_telling(exchange, causes, ()), causes)


def _may_mend(error: BaseException | None) -> bool:
    """Say whether the branch may still bring an answer that the failover did not."""
    if isinstance(error, Superseded):
        return True
    if not isinstance(error, AllAttemptsFailed):
        return False
    last = error.causes[-1]
    return not isinstance(last, UpstreamError) or last.fails_over
