"""What is left alone, for how long, and what comes before it."""

import pytest

from llmproxy.core.errors import KeyFault, UpstreamConnectError, UpstreamStatusError
from llmproxy.core.exchange import Cooling, Target
from llmproxy.resilience.cooldown import Cooldowns

A = Target(provider="a", model="m")
OTHER = Target(provider="a", model="n")
B = Target(provider="b", model="m")


def fault(kind: KeyFault | None, retry_after: float | None = None) -> UpstreamStatusError:
    """Give a provider's error that is the key's fault."""
    return UpstreamStatusError(
        "no",
        status=429,
        dialect="openai_chat",
        key_fault=kind,
        retryable=False,
        fails_over=True,
        blames_target=False,
        retry_after=retry_after,
    )


def watching(keys: int = 2) -> Cooldowns:
    """Watch so many keys of provider a, and one of b."""
    cooldowns = Cooldowns()
    cooldowns.cover({"a": range(keys), "b": ["key"]})
    return cooldowns


@pytest.mark.parametrize(
    ("kind", "named", "lasts"),
    [
        (KeyFault.RATE_LIMITED, None, 15.0),
        (KeyFault.RATE_LIMITED, 2.0, 2.0),
        (KeyFault.RATE_LIMITED, 0.0, 1.0),
        (KeyFault.RATE_LIMITED, 86_400.0, 300.0),
        (KeyFault.REFUSED, None, 600.0),
        (KeyFault.EXHAUSTED, 1.0, 600.0),
        (KeyFault.FORBIDDEN, None, 60.0),
    ],
)
def test_a_cool_down_lasts_as_its_reason_asks(
    kind: KeyFault, named: float | None, lasts: float
) -> None:
    cooldowns = watching(keys=1)

    cooldowns.record(A, 0, fault(kind, named), began=0.0, now=0.0)

    assert cooldowns.order([A, B], lasts - 0.1) == [B, A]
    assert cooldowns.order([A, B], lasts) == [A, B]


@pytest.mark.parametrize(
    ("kind", "others"),
    [
        (KeyFault.RATE_LIMITED, False),
        (KeyFault.FORBIDDEN, False),
        (KeyFault.REFUSED, True),
        (KeyFault.EXHAUSTED, True),
    ],
)
def test_what_is_about_the_key_itself_cools_it_for_all_models(kind: KeyFault, others: bool) -> None:
    cooldowns = watching(keys=1)

    cooldowns.record(A, 0, fault(kind), began=0.0, now=0.0)

    assert (cooldowns.order([OTHER, B], 1.0) == [B, OTHER]) is others


def test_a_target_cools_only_when_all_its_keys_do() -> None:
    cooldowns = watching()

    cooldowns.record(A, 0, fault(KeyFault.REFUSED), began=0.0, now=0.0)
    one_left = cooldowns.order([A, B], 1.0)
    cooldowns.record(A, 1, fault(KeyFault.RATE_LIMITED), began=0.0, now=0.0)

    assert one_left == [A, B]
    assert cooldowns.order([A, B], 1.0) == [B, A]


def test_keys_are_used_in_turn() -> None:
    cooldowns = watching(keys=3)

    assert [cooldowns.choose(A, (), 0.0) for _ in range(5)] == [0, 1, 2, 0, 1]


def test_a_cooling_key_is_not_used_while_another_is_free() -> None:
    cooldowns = watching()
    cooldowns.record(A, 0, fault(KeyFault.RATE_LIMITED), began=0.0, now=0.0)

    assert {cooldowns.choose(A, (), 1.0) for _ in range(4)} == {1}


def test_where_all_cool_the_key_that_is_free_first_is_used() -> None:
    cooldowns = watching()
    cooldowns.record(A, 0, fault(KeyFault.REFUSED), began=0.0, now=0.0)
    cooldowns.record(A, 1, fault(KeyFault.RATE_LIMITED), began=0.0, now=0.0)

    assert not cooldowns.any_free(A, (), 1.0)
    assert cooldowns.choose(A, (), 1.0) == 1


def test_after_a_long_cool_down_one_request_tries_the_key() -> None:
    cooldowns = watching()
    cooldowns.record(A, 0, fault(KeyFault.REFUSED), began=0.0, now=0.0)

    chosen = []
    for _ in range(4):
        chosen.append(cooldowns.choose(A, (), 601.0))
        cooldowns.began(A, chosen[-1], 601.0)

    assert chosen.count(0) == 1


def test_a_success_ends_the_cool_down() -> None:
    cooldowns = watching(keys=1)
    cooldowns.record(A, 0, fault(KeyFault.REFUSED), began=0.0, now=0.0)

    cooldowns.record(A, 0, None, began=1.0, now=1.0)

    assert cooldowns.report(1.0) == []
    assert cooldowns.order([A, B], 1.0) == [A, B]


@pytest.mark.parametrize("error", [fault(None), UpstreamConnectError("down")])
def test_what_is_not_the_keys_fault_cools_nothing(error: Exception) -> None:
    cooldowns = watching(keys=1)

    cooldowns.record(A, 0, error, began=0.0, now=0.0)

    assert cooldowns.report(0.0) == []


def test_a_cool_down_is_told_when_it_starts_and_not_when_it_goes_on() -> None:
    cooldowns = watching()
    told: list[Cooling] = []
    cooldowns.subscribe(lambda one, _seconds: told.append(one))

    for now in (0.0, 1.0, 20.0):
        cooldowns.record(A, 1, fault(KeyFault.RATE_LIMITED), began=now, now=now)

    assert [(one.key, one.model, one.fault) for one in told] == [
        (1, "m", KeyFault.RATE_LIMITED),
        (1, "m", KeyFault.RATE_LIMITED),
    ]


def test_keys_that_changed_start_new() -> None:
    cooldowns = watching(keys=1)
    cooldowns.record(A, 0, fault(KeyFault.REFUSED), began=0.0, now=0.0)
    cooldowns.record(B, 0, fault(KeyFault.REFUSED), began=0.0, now=0.0)

    cooldowns.cover({"a": ["another"], "b": ["key"]})

    assert [one.provider for one in cooldowns.report(1.0)] == ["b"]


def test_a_success_that_began_before_the_failure_ends_nothing() -> None:
    cooldowns = watching(keys=1)
    cooldowns.record(A, 0, fault(KeyFault.REFUSED), began=1.0, now=2.0)

    cooldowns.record(A, 0, None, began=1.0, now=3.0)

    assert len(cooldowns.report(3.0)) == 1


def test_a_shorter_wait_does_not_shorten_a_longer_one() -> None:
    cooldowns = watching(keys=1)
    cooldowns.record(A, 0, fault(KeyFault.RATE_LIMITED, 60.0), began=0.0, now=0.0)

    cooldowns.record(A, 0, fault(KeyFault.RATE_LIMITED, 2.0), began=0.0, now=1.0)

    assert cooldowns.order([A, B], 59.0) == [B, A]


def test_a_single_refused_key_is_tried_by_one_request_too() -> None:
    cooldowns = watching(keys=1)
    cooldowns.record(A, 0, fault(KeyFault.REFUSED), began=0.0, now=0.0)

    looked_at = [cooldowns.order([A, B], 601.0) for _ in range(2)]
    cooldowns.began(A, 0, 601.0)

    assert looked_at == [[A, B], [A, B]]
    assert cooldowns.order([A, B], 602.0) == [B, A]
    assert cooldowns.order([A, B], 611.0) == [A, B]


def test_what_is_remembered_has_a_bound() -> None:
    cooldowns = watching(keys=1)
    cooldowns.record(A, 0, fault(KeyFault.REFUSED), began=0.0, now=0.0)

    for number in range(3000):
        target = Target(provider="a", model=f"m{number}")
        cooldowns.record(target, 0, fault(KeyFault.RATE_LIMITED), began=1.0, now=1.0)

    assert len(cooldowns.report(2.0)) <= 1000
    assert KeyFault.REFUSED in {one.fault for one in cooldowns.report(2.0)}


def test_the_end_of_a_cool_down_is_told() -> None:
    cooldowns = watching(keys=1)
    told: list[float] = []
    cooldowns.subscribe(lambda _one, seconds: told.append(seconds))

    cooldowns.record(A, 0, fault(KeyFault.REFUSED), began=0.0, now=0.0)
    cooldowns.record(A, 0, None, began=1.0, now=2.0)

    assert told == [600.0, 0.0]


def test_what_is_over_for_one_model_is_forgotten() -> None:
    cooldowns = watching(keys=1)
    cooldowns.record(A, 0, fault(KeyFault.RATE_LIMITED), began=0.0, now=0.0)

    cooldowns.order([A, B], 20.0)

    assert cooldowns.report(1.0) == []
