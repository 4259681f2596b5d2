"""Places, the line in front of them, and the shares of client keys."""

import asyncio
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmproxy.config.schema import LimitsConfig
from llmproxy.core.errors import Busy, GatewayBusy, KeyBusy, TargetBusy
from llmproxy.core.exchange import Principal
from llmproxy.resilience.limit import LATEST, InFlight, Shares
from tests.support.stall import stand_still

TEAM = Principal(key="team", share=0.5)


def places(
    limit: int | None, *, queue: float = 1.0, queue_time: float = 60.0, provider: str | None = None
) -> InFlight:
    made = InFlight(limit, LimitsConfig(queue=queue, queue_time=queue_time), provider=provider)
    while limit is not None and not made.full:
        made.admit()
    return made


async def in_line(made: InFlight, count: int = 1) -> list[asyncio.Task[None]]:
    """Give so many tasks that wait for a place, in their order."""
    tasks = [asyncio.ensure_future(made.wait(inf)) for _ in range(count)]
    await asyncio.sleep(0)  # each runs as far as it can
    assert made.waiting >= count
    return tasks


async def refusal_of(made: InFlight, patience: float = inf) -> Busy:
    with pytest.raises(Busy) as raised:
        await made.wait(patience)
    return raised.value


async def test_a_place_given_back_in_time_is_had_though_the_process_stood_still() -> None:
    made = places(1, queue_time=0.1)
    waiting = (await in_line(made))[0]
    loop = asyncio.get_running_loop()

    loop.call_later(0.05, made.settle)  # as an answer that lies in a socket does it
    stand_still(0.2)

    await waiting


def test_without_a_limit_it_is_never_full() -> None:
    made = places(None)
    for _ in range(1000):
        made.admit()

    assert not made.full


def test_with_a_limit_it_is_full_there_and_not_before() -> None:
    made = InFlight(2, LimitsConfig())
    made.admit()
    seen = [made.full]
    made.admit()
    seen.append(made.full)
    made.settle()
    seen.append(made.full)

    assert seen == [False, True, False]


async def test_places_go_to_those_who_wait_in_their_order() -> None:
    made = places(3)
    tasks = await in_line(made, 3)
    served: list[asyncio.Task[None]] = []
    for task in tasks:
        task.add_done_callback(served.append)

    for task in tasks:
        made.settle()
        await task

    assert served == tasks
    assert (made.count, made.waiting) == (3, 0)


async def test_a_place_that_somebody_waits_for_is_never_free_for_others() -> None:
    made = places(1)
    (task,) = await in_line(made)

    made.settle()
    free = not made.full  # the one who waited has not run yet
    await task

    assert not free
    assert made.count == 1


async def test_a_waiter_that_is_cancelled_leaves_the_line() -> None:
    made = places(2)
    gone, stays = await in_line(made, 2)

    gone.cancel()
    await asyncio.wait([gone])
    waiting = made.waiting
    made.settle()
    await stays

    assert waiting == 1
    assert made.count == 2


async def test_a_place_handed_to_a_waiter_that_is_being_cancelled_goes_on() -> None:
    made = places(2)
    gone, stays = await in_line(made, 2)

    made.settle()  # it is handed to the first, which has not run since
    gone.cancel()
    await asyncio.wait([gone])
    await stays

    assert gone.cancelled()
    assert (made.count, made.waiting) == (2, 0)


async def test_a_waiter_cancelled_just_before_a_place_is_free_does_not_get_it() -> None:
    made = places(2)
    gone, stays = await in_line(made, 2)

    gone.cancel()  # it has not run since, so it still stands in line
    made.settle()
    await asyncio.wait([gone])
    await stays

    assert gone.cancelled()
    assert (made.count, made.waiting) == (2, 0)


async def test_a_place_that_nobody_takes_any_more_is_free() -> None:
    made = places(1)
    (gone,) = await in_line(made)

    gone.cancel()
    made.settle()
    await asyncio.wait([gone])

    assert (made.count, made.waiting, made.full) == (0, 0, False)


class Play:
    """Plays what may happen around two places, and keeps its own books."""

    def __init__(self) -> None:
        self.places = places(2, queue=50)
        self.holders = 2
        self.tasks: list[asyncio.Task[None]] = []

    async def do(self, action: str) -> None:
        waiting = [task for task in self.tasks if not task.done()]
        if action == "come":
            self.tasks.append(asyncio.ensure_future(self._come()))
        elif action == "leave" and self.holders:
            self.holders -= 1
            self.places.settle()
        elif action in ("first gives up", "last gives up") and waiting:
            waiting[0 if action.startswith("first") else -1].cancel()
        elif action == "run":
            await asyncio.sleep(0)

    async def _come(self) -> None:
        if self.places.full:
            await self.places.wait(inf)
        else:
            self.places.admit()
        self.holders += 1

    async def settle_down(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


ACTIONS = ("come", "leave", "first gives up", "last gives up", "run")


@given(st.lists(st.sampled_from(ACTIONS), max_size=30))
def test_no_place_and_no_waiter_is_lost_whatever_happens_in_which_order(
    actions: list[str],
) -> None:
    async def play() -> None:
        made = Play()
        for action in actions:
            await made.do(action)
        await made.settle_down()

        assert made.places.count == made.holders <= 2
        assert made.places.full or not made.places.waiting

        await made.end()

    asyncio.run(play())


async def test_who_waits_longer_than_may_be_is_refused_and_leaves_the_line() -> None:
    made = places(1, queue_time=0.01)

    refused = await refusal_of(made)

    assert refused.reason == "waited"
    assert made.waiting == 0
    assert made.count == 1


async def test_who_has_less_patience_waits_no_longer_than_that() -> None:
    made = places(1, queue_time=60.0)

    refused = await asyncio.wait_for(refusal_of(made, patience=0.01), 5.0)

    assert refused.reason == "waited"


async def test_whose_deadline_has_passed_does_not_wait() -> None:
    made = places(1)

    refused = await refusal_of(made, patience=-1.0)

    assert refused.reason == "late"


@pytest.mark.parametrize(("limit", "queue", "room"), [(4, 0.5, 2), (3, 0.5, 2), (1, 0.1, 1)])
async def test_so_many_may_wait_and_no_more(limit: int, queue: float, room: int) -> None:
    made = places(limit, queue=queue)
    tasks = await in_line(made, room)

    refused = await refusal_of(made)
    for _ in tasks:
        made.settle()
    await asyncio.gather(*tasks)

    assert refused.reason == "full"


async def test_nobody_waits_where_there_is_no_queue() -> None:
    made = places(4, queue=0)

    refused = await refusal_of(made)

    assert refused.reason == "full"


async def test_who_would_wait_in_vain_is_refused_at_once() -> None:
    made = places(2, queue_time=1.0)
    for _ in range(200):
        made.admit()
        made.settle(1.5)  # so that a place becomes free each 0.75 s
    (task,) = await in_line(made)

    refused = await refusal_of(made)
    made.settle()
    await task

    assert refused.reason == "late"
    assert refused.retry_after == pytest.approx(1.5, rel=0.01)


async def test_nobody_is_told_to_wait_longer_than_sdks_do() -> None:
    made = places(1)
    for _ in range(200):
        made.admit()
        made.settle(600.0)

    refused = await refusal_of(made)

    assert refused.retry_after == LATEST


async def test_before_anything_is_known_a_client_is_told_to_wait_a_second() -> None:
    refused = places(1).refusal("full")

    assert refused.retry_after == 1.0


async def test_those_in_line_come_in_when_there_is_more_room() -> None:
    made = places(1, queue=3.0)
    first, second, third = await in_line(made, 3)

    made.resize(3, LimitsConfig())
    await asyncio.gather(first, second)

    assert (made.count, made.waiting, made.full) == (3, 1, True)
    made.settle()
    await third


async def test_a_place_above_a_smaller_limit_goes_to_nobody() -> None:
    made = places(2)
    (task,) = await in_line(made)
    made.resize(1, LimitsConfig())

    made.settle()
    after_one = (made.count, made.waiting)
    made.settle()
    await task

    assert after_one == (1, 1)
    assert made.count == 1


def test_a_share_of_what_has_no_limit_any_more_has_none() -> None:
    made = places(1)
    shares = Shares(made)
    made.resize(None, LimitsConfig())

    for _ in range(100):
        shares.admit(TEAM, 0.5)


def test_a_refusal_tells_whose_limit_it_is() -> None:
    ours = places(1).refusal("full")
    theirs = places(1, provider="openai").refusal("full")

    assert isinstance(ours, GatewayBusy)
    assert (ours.limit, ours.provider) == ("gateway", "")
    assert isinstance(theirs, TargetBusy)
    assert (theirs.limit, theirs.provider) == ("provider", "openai")
    assert theirs.message.startswith("openai has")


@pytest.mark.parametrize(("limit", "share", "most"), [(10, 0.5, 5), (10, 0.29, 3), (2, 0.1, 1)])
def test_a_key_has_its_share_and_one_place_at_least(limit: int, share: float, most: int) -> None:
    shares = Shares(places(limit))
    for _ in range(most):
        shares.admit(TEAM, share)

    with pytest.raises(KeyBusy):
        shares.admit(TEAM, share)


def test_a_key_that_has_spent_its_share_stands_in_nobodys_way() -> None:
    shares = Shares(places(2))
    shares.admit(TEAM, 0.5)

    shares.admit(Principal(key="other"), 0.5)

    with pytest.raises(KeyBusy):
        shares.admit(TEAM, 0.5)


def test_what_a_key_gives_back_it_may_take_again() -> None:
    shares = Shares(places(2))
    for _ in range(3):
        shares.admit(TEAM, 0.5)

        shares.settle(TEAM)

    shares.admit(TEAM, 0.5)
    with pytest.raises(KeyBusy):
        shares.admit(TEAM, 0.5)


def test_a_key_over_its_share_is_told_when_one_of_its_own_will_have_ended() -> None:
    made = places(4)
    for _ in range(200):
        made.admit()
        made.settle(6.0)
    shares = Shares(made)
    for _ in range(2):
        shares.admit(TEAM, 0.5)

    with pytest.raises(KeyBusy) as raised:
        shares.admit(TEAM, 0.5)

    assert raised.value.retry_after == pytest.approx(3.0, rel=0.01)
    assert raised.value.reason == "full"
