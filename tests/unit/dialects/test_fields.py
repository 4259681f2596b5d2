"""What becomes of each field of a request in translation."""

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from llmproxy.core.errors import NotExpressible
from llmproxy.core.exchange import Json
from llmproxy.dialects.chat import ChatRequest
from llmproxy.dialects.fields import (
    DEFAULTS,
    asked,
    check_asked,
    check_said,
    group,
    idle,
    refused,
    said,
    unsayable,
    with_names,
)
from llmproxy.dialects.openai_chat.client import ASKED
from llmproxy.dialects.registry import DIALECTS

CLIENT = {
    "good": asked("as it is", "temperature"),
    "better": asked("as it is", "temperature"),
    "idle": idle("a hint"),
    "n": unsayable("there is one", 1),
    "outer": group("holds others"),
    "outer.seed": asked("as it is", "seed"),
}
PROVIDER = {**dict.fromkeys(DEFAULTS, said("as it is")), "seed": refused("it has none", 0)}


def test_every_field_of_the_official_sdk_has_a_row() -> None:
    official = {*CompletionCreateParamsBase.__annotations__, "stream"}

    assert official <= set(ASKED)


@pytest.mark.parametrize("name", DIALECTS)
def test_the_tables_of_all_dialects_speak_of_the_same_meanings(name: str) -> None:
    dialect = DIALECTS[name]

    meanings = {meaning for row in dialect.client.ASKED.values() for meaning in row.means}
    assert meanings <= {*DEFAULTS, "messages"}
    assert set(DEFAULTS) == set(dialect.provider.SAID)


def test_each_meaning_gets_the_name_that_the_client_gave_it_first() -> None:
    names = check_asked({"better": 1, "good": 2, "outer": {"seed": 3}}, CLIENT)

    assert names == {"temperature": "better", "seed": "outer.seed"}


def test_dropped_and_harmless_fields_pass_and_null_is_not_given() -> None:
    assert check_asked({"idle": [2], "n": 1, "new": None, "good": None}, CLIENT) == {}


@pytest.mark.parametrize(
    ("body", "name"),
    [({"n": 2}, "n"), ({"new": 2}, "new"), ({"outer": {"new": 2}}, "outer.new")],
)
def test_refused_and_unknown_fields_are_named_with_the_way_out(body: Json, name: str) -> None:
    with pytest.raises(NotExpressible, match=r"provider/model") as caught:
        check_asked(body, CLIENT)

    assert caught.value.param == name


def test_a_name_as_long_as_a_book_is_not_repeated_whole() -> None:
    with pytest.raises(NotExpressible) as caught:
        check_asked({"x" * 100_000: 1}, CLIENT)

    assert len(caught.value.message) < 500


def test_what_a_provider_cannot_be_told_is_refused_by_the_clients_name() -> None:
    request = with_names(ChatRequest(messages=(), seed=7), {"seed": "outer.seed"})

    with pytest.raises(NotExpressible, match="it has none") as caught:
        check_said(request, PROVIDER)

    assert caught.value.param == "outer.seed"


@pytest.mark.parametrize("seed", [None, 0])
def test_what_asks_for_nothing_passes_every_provider(seed: int | None) -> None:
    check_said(ChatRequest(messages=(), seed=seed), PROVIDER)
