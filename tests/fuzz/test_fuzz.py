"""Each fuzz target holds for its examples and a few thousand changes of them."""

import pytest

from tests.fuzz.corpus import seeds, words
from tests.fuzz.fuzzer import Fuzzer
from tests.fuzz.targets import TARGETS

INPUTS = 400


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds(name: str) -> None:
    fuzzer = Fuzzer(TARGETS[name], seeds=seeds(name), words=words(name), seed=1)

    find = fuzzer.run(until=lambda tried: tried >= INPUTS)

    assert find is None, repr(find)


def test_a_broken_promise_is_found() -> None:
    def broken(data: bytes) -> None:
        assert b"((" not in data

    fuzzer = Fuzzer(broken, seeds=[b"(a)(b)"], words=[b"x"], seed=1)

    find = fuzzer.run(until=lambda tried: tried >= INPUTS)

    assert find is not None
    assert b"((" in find.data


def test_an_input_that_reaches_new_lines_is_kept() -> None:
    name = "call"
    fuzzer = Fuzzer(TARGETS[name], seeds=[b"{}"], words=words(name), seed=1)

    fuzzer.run(until=lambda tried: tried >= INPUTS)

    assert len(fuzzer.kept) > 2


def test_a_seed_repeats_its_inputs() -> None:
    def kept() -> list[bytes]:
        fuzzer = Fuzzer(TARGETS["wait"], seeds=seeds("wait"), words=words("wait"), seed=7)
        fuzzer.run(until=lambda tried: tried >= INPUTS)
        return fuzzer.kept

    assert kept() == kept()
