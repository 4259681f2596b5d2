"""OpenAI's chat completions as the provider, and compatible servers, speak them."""

from base64 import b64encode
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import completion_create_params
from pydantic import TypeAdapter

from llmproxy.core.errors import NotExpressible, UpstreamProtocolError
from llmproxy.core.exchange import Json
from llmproxy.core.usage import Usage
from llmproxy.dialects import freeform
from llmproxy.dialects.chat import (
    Audio,
    BlockEnded,
    ChatEvent,
    ChatRequest,
    Citation,
    Cited,
    Document,
    Image,
    Inline,
    JsonFormat,
    Link,
    Message,
    MessageEnded,
    MessageStarted,
    Part,
    RedactedThinking,
    Refusal,
    RefusalDelta,
    Role,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingConfig,
    ThinkingDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStarted,
    ToolChoice,
    ToolResult,
)
from llmproxy.dialects.openai_chat.provider import (
    MOST_CALLS,
    Parser,
    parse_response,
    parser,
    render_request,
)
from llmproxy.framing.sse import Event

OURS = "openai_chat"
TYPES = TypeAdapter(completion_create_params.CompletionCreateParamsNonStreaming)
PICTURE = Image(source=Inline(media_type="image/png", data="aGk="), at="messages[0].content[0]")
TOOL = Tool(name="look", parameters={"properties": {"at": {"type": "string"}}}, at="tools[0]")


# requests ---------------------------------------------------------------------------------------


def said(role: Role, *parts: Part, at: str = "messages[0]") -> Message:
    return Message(role=role, parts=parts, at=at)


def user(text: str = "Hi") -> Message:
    return said(Role.USER, Text(text=text))


def ask(model: str = "llama", *, stream: bool = False, **wants: Any) -> Json:
    """Give the body for a request with these wishes."""
    messages = wants.pop("messages", (user(),))
    return render_request(
        ChatRequest(messages=messages, **wants), model=model, stream=stream, default_max_tokens=9
    )


def told(*messages: Message, model: str = "llama") -> list[Json]:
    """Give the messages of a request."""
    rendered: list[Json] = ask(model, messages=messages)["messages"]
    return rendered


def call(id_: str = "call_1", name: str = "look", **arguments: Any) -> ToolCall:
    return ToolCall(id=id_, name=name, arguments=arguments)


def result(id_: str = "call_1", *content: Any, is_error: bool = False) -> ToolResult:
    return ToolResult(id=id_, content=content or (Text(text="seen"),), is_error=is_error)


def test_nothing_is_said_that_was_not_asked() -> None:
    assert ask() == {"model": "llama", "messages": [{"role": "user", "content": "Hi"}]}


def test_a_stream_is_always_asked_to_tell_its_usage() -> None:
    assert ask(stream=True)["stream_options"] == {"include_usage": True}


def test_a_stream_of_mistrals_tells_it_unasked_and_refuses_the_field() -> None:
    assert "stream_options" not in ask("mistral-large-latest", stream=True)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-5", "max_completion_tokens"),
        ("openai/gpt-5.2-codex", "max_completion_tokens"),
        ("o4-mini", "max_completion_tokens"),
        ("ft:o3-mini:acme", "max_completion_tokens"),
        ("gpt-4o", "max_tokens"),
        ("gpt-35-turbo", "max_tokens"),
        ("gpt-oss-120b", "max_tokens"),
        ("olmo-2", "max_tokens"),
        ("my-gpt-5", "max_tokens"),
    ],
)
def test_the_limit_has_its_new_name_where_the_old_one_is_refused(model: str, name: str) -> None:
    assert ask(model, max_tokens=5)[name] == 5


def test_sampling_that_is_the_default_is_left_out_where_any_is_refused() -> None:
    wants: Any = {"temperature": 1, "top_p": 1.0}

    assert ask("gpt-5", **wants).keys() == {"model", "messages"}
    assert ask("qwen3", **wants)["temperature"] == 1
    assert ask("gpt-5", temperature=0.2)["temperature"] == 0.2


def test_sampling_passes_as_it_is() -> None:
    wants: Any = {
        "top_k": 40,
        "seed": 7,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "stop": ("a", "b"),
    }

    body = ask("qwen3", **wants)

    assert {name: body[name] for name in wants} == {**wants, "stop": ["a", "b"]}


def test_top_k_is_dropped_where_it_is_not_known_unless_it_asks_for_one_token_alone() -> None:
    assert "top_k" not in ask("gpt-4o", top_k=64)

    with pytest.raises(NotExpressible) as caught:
        ask("gpt-4o", top_k=1, names={"top_k": "generationConfig.topK"})

    assert caught.value.param == "generationConfig.topK"


def test_mistral_has_its_own_word_for_a_seed_and_none_for_a_user() -> None:
    body = ask("mistral-small-2603", seed=3, user="u")

    assert body["random_seed"] == 3
    assert body.keys().isdisjoint({"seed", "user"})


@pytest.mark.parametrize(
    ("model", "effort", "word"),
    [
        ("gpt-5", "none", "minimal"),
        ("gpt-5", "max", "high"),
        ("gpt-5.1", "minimal", "low"),
        ("gpt-5.2", "max", "xhigh"),
        ("gpt-5-pro", "low", "high"),
        ("o3", "minimal", "low"),
        ("gpt-oss-20b", "none", "low"),
        ("qwen3-32b", "xhigh", "high"),
        ("qwen3-32b", "none", "none"),
        ("deepseek-v4-pro", "max", "max"),
    ],
)
def test_an_effort_is_the_next_one_that_the_model_knows(model: str, effort: Any, word: str) -> None:
    assert ask(model, effort=effort)["reasoning_effort"] == word


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1-mini", "chatgpt-4o-latest", "gpt-5-chat-latest"]
)
def test_models_that_do_not_reason_are_told_no_effort(model: str) -> None:
    assert "reasoning_effort" not in ask(model, effort="high")


def test_a_budget_is_an_effort_for_models_known_to_think_and_dropped_for_others() -> None:
    thinking = ThinkingConfig(budget=31_999)

    assert ask("gpt-5.2", thinking=thinking)["reasoning_effort"] == "xhigh"
    assert ask("gpt-oss-120b", thinking=ThinkingConfig(budget=2048))["reasoning_effort"] == "low"
    assert ask("llama", thinking=thinking).keys() == {"model", "messages"}
    assert ask("gpt-5.2", thinking=ThinkingConfig()).keys() == {"model", "messages"}


@pytest.mark.parametrize("model", ["deepseek-chat", "z-ai/glm-4.7", "kimi-k2.5"])
def test_thinking_is_switched_off_where_there_is_a_switch(model: str) -> None:
    body = ask(model, thinking=ThinkingConfig(budget=0))

    assert body["thinking"] == {"type": "disabled"}
    assert "reasoning_effort" not in body


def test_thinking_that_is_off_wins_over_an_effort() -> None:
    body = ask("gpt-5.1", thinking=ThinkingConfig(budget=0), effort="high")

    assert body["reasoning_effort"] == "none"


def test_labels_go_to_openais_own_models_alone() -> None:
    labels: Any = {
        "service_tier": "flex",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "store": True,
        "metadata": {"a": "b"},
        "verbosity": "low",
    }

    assert ask("gpt-5", **labels).items() >= labels.items()
    assert ask("llama", **labels).keys() == {"model", "messages"}
    assert "metadata" not in ask("gpt-5", metadata={"a": "b"})
    assert "verbosity" not in ask("gpt-4o", verbosity="low")
    assert "service_tier" not in ask("gpt-5", service_tier="standard_only")


def test_a_long_user_is_told_by_its_hash() -> None:
    body = ask(user="u" * 65)

    assert len(body["user"]) == 64
    assert body["user"] == ask(user="u" * 65)["user"] != ask(user="u" * 66)["user"]
    assert ask(user="u" * 64)["user"] == "u" * 64


def test_tools_have_a_schema_whatever_the_client_left_out() -> None:
    body = ask(
        tools=(TOOL, Tool(name="now", description="the time", strict=True)),
        tool_choice=ToolChoice(mode="required", name="now"),
        parallel_tool_calls=False,
    )

    look, now = (tool["function"] for tool in body["tools"])
    assert look["parameters"] == {"type": "object", "properties": {"at": {"type": "string"}}}
    assert now == {
        "name": "now",
        "description": "the time",
        "parameters": {"type": "object", "properties": {}},
        "strict": True,
    }
    assert body["tool_choice"] == {"type": "function", "function": {"name": "now"}}
    assert body["parallel_tool_calls"] is False


def test_without_tools_there_is_no_choice_of_one() -> None:
    body = ask(tool_choice=ToolChoice(mode="none"), parallel_tool_calls=False)

    assert body.keys() == {"model", "messages"}


def test_the_o_series_is_not_told_to_call_one_tool_at_a_time() -> None:
    assert "parallel_tool_calls" not in ask("o4-mini", tools=(TOOL,), parallel_tool_calls=False)


def test_a_freeform_tool_is_a_function_of_one_text() -> None:
    grammar = {"syntax": "lark", "definition": "start: /a/"}
    described = freeform.parameters(grammar)
    tool = Tool(name="patch", freeform=True, grammar=grammar, parameters=described)

    body = ask(tools=(tool,))

    (tool,) = body["tools"]
    schema = tool["function"]["parameters"]
    assert schema["required"] == ["input"]
    assert "start: /a/" in schema["properties"]["input"]["description"]


def test_a_tools_name_that_openai_refuses_is_refused_by_the_clients_place() -> None:
    tool = Tool(name="a.b", at="tools[0]")

    with pytest.raises(NotExpressible) as caught:
        ask("gpt-4o", tools=(tool,))

    assert caught.value.param == "tools[0].name"
    assert ask("qwen3", tools=(tool,))["tools"][0]["function"]["name"] == "a.b"


def test_json_is_asked_for_by_a_schema_under_a_name_that_is_one() -> None:
    schema: Json = {"type": "object"}

    named = ask(json_format=JsonFormat(schema=schema, name="a b/c", strict=True))
    nameless = ask(json_format=JsonFormat(schema=schema))

    assert named["response_format"]["json_schema"] == {
        "name": "a_b_c",
        "schema": schema,
        "strict": True,
    }
    assert nameless["response_format"]["json_schema"]["name"] == "answer"
    assert ask(json_format=JsonFormat(schema=None))["response_format"] == {"type": "json_object"}


def test_what_the_system_says_stays_in_its_place_and_neighbours_are_one() -> None:
    messages = told(
        said(Role.SYSTEM, Text(text="Be kind.")),
        said(Role.SYSTEM, Text(text="Be brief.")),
        user("Hi"),
        user("there"),
        said(Role.SYSTEM, Text(text="Now.")),
    )

    assert messages == [
        {"role": "system", "content": "Be kind.\n\nBe brief."},
        {"role": "user", "content": "Hi\n\nthere"},
        {"role": "system", "content": "Now."},
    ]


def test_an_assistants_texts_are_pieces_of_one() -> None:
    messages = told(said(Role.ASSISTANT, Text(text="Hel"), Refusal(text="lo")), user())

    assert messages[0] == {"role": "assistant", "content": "Hello"}


def test_pictures_files_and_sounds_are_parts() -> None:
    (message,) = told(
        said(
            Role.USER,
            Text(text="See"),
            Image(source=Link(url="https://a/b.png"), detail="low"),
            PICTURE,
            Document(source=Inline(media_type="application/pdf", data="aGk=")),
            Audio(source=Inline(media_type="audio/mpeg", data="aGk=")),
        )
    )

    assert message["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {
            "type": "file",
            "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,aGk="},
        },
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
    ]


def test_a_document_of_text_is_text() -> None:
    data = b64encode("Straße".encode()).decode()
    document = Document(source=Inline(media_type="text/plain", data=data), title="notes")

    (message,) = told(said(Role.USER, document))

    assert message["content"] == "notes\n\nStraße"


@pytest.mark.parametrize(
    "part",
    [
        Document(source=Link(url="https://a/b.pdf"), at="here"),
        Document(source=Inline(media_type="text/plain", data="no base64"), at="here"),
        Audio(source=Inline(media_type="audio/flac", data="aGk="), at="here"),
    ],
)
def test_what_chat_has_no_word_for_is_refused_by_its_place(part: Part) -> None:
    with pytest.raises(NotExpressible) as caught:
        told(said(Role.USER, part))

    assert caught.value.param == "here"


def test_a_picture_that_the_model_made_is_refused_in_the_history() -> None:
    with pytest.raises(NotExpressible) as caught:
        told(said(Role.ASSISTANT, PICTURE), user())

    assert caught.value.param == PICTURE.at


def test_calls_are_one_message_and_their_results_follow_directly() -> None:
    messages = told(
        user(),
        said(Role.ASSISTANT, Text(text="Wait.")),
        said(Role.ASSISTANT, call("a", at="x")),
        said(Role.ASSISTANT, call("b")),
        said(Role.SYSTEM, Text(text="Hurry.")),
        said(Role.USER, Text(text="And?"), result("b", Text(text="2"))),
        said(Role.USER, result("a", Text(text="1"))),
    )

    assert [message["role"] for message in messages] == [
        "user", "assistant", "tool", "tool", "system", "user",
    ]  # fmt: skip
    assert messages[1]["content"] == "Wait."
    assert [one["id"] for one in messages[1]["tool_calls"]] == ["a", "b"]
    assert messages[1]["tool_calls"][0]["function"] == {
        "name": "look",
        "arguments": '{"at":"x"}',
    }
    assert [one["tool_call_id"] for one in messages[2:4]] == ["b", "a"]
    assert messages[-1]["content"] == "And?"


def test_pictures_in_a_tools_result_are_shown_in_the_users_next_message() -> None:
    messages = told(
        said(Role.ASSISTANT, call()),
        said(Role.USER, result("call_1", Text(text="ok"), PICTURE), Text(text="And?")),
    )

    _, tool, shown = messages
    assert tool["content"].startswith("ok\n\n")
    assert shown["role"] == "user"
    assert [part["type"] for part in shown["content"]] == ["text", "image_url", "text"]
    assert "call_1" in shown["content"][0]["text"]


@pytest.mark.parametrize(
    ("text", "content"),
    [("not found", "Error: not found"), ("ERROR 5", "ERROR 5"), ("", "Error: ")],
)
def test_a_tools_failure_can_be_read_in_its_text(text: str, content: str) -> None:
    messages = told(
        said(Role.ASSISTANT, call()),
        said(Role.USER, result("call_1", Text(text=text), is_error=True)),
    )

    assert messages[1]["content"] == content


@pytest.mark.parametrize(
    ("model", "name", "kept"),
    [
        ("gpt-4o", "toolu_01A", True),
        ("gpt-4o", "t" * 41, False),
        ("gpt-4o", "a\nb", False),
        ("gpt-4o", "", False),
        ("mistral-large", "toolu_01A", False),
        ("mistral-large", "abcDEF123", True),
        ("kimi-k2", "functions." + "f" * 40 + ":0", True),
    ],
)
def test_an_id_is_shortened_alike_in_a_call_and_its_result(
    model: str, name: str, kept: bool
) -> None:
    messages = told(said(Role.ASSISTANT, call(name)), said(Role.USER, result(name)), model=model)

    own = messages[0]["tool_calls"][0]["id"]
    assert own == messages[1]["tool_call_id"]
    assert (own == name) is kept
    assert 0 < len(own) <= (9 if "mistral" in model else 60)


def test_an_answer_that_the_client_begins_is_refused_unless_it_can_be_said() -> None:
    begun = (user(), said(Role.ASSISTANT, Text(text="{"), at="messages[1]"))

    with pytest.raises(NotExpressible) as caught:
        ask("gpt-4o", messages=begun)

    assert caught.value.param == "messages[1]"
    assert ask("mistral-large", messages=begun)["messages"][1]["prefix"] is True
    assert ask("anthropic/claude-opus-4.1", messages=begun)["messages"][1]["content"] == "{"


def test_cache_marks_go_to_claude_alone() -> None:
    marked = said(Role.USER, Text(text="long", cache_control={"type": "ephemeral"}))

    assert told(marked) == [{"role": "user", "content": "long"}]
    assert told(marked, model="anthropic/claude-sonnet-5")[0]["content"] == [
        {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    ]


def test_messages_without_content_are_left_out_and_none_at_all_is_refused() -> None:
    foreign = Thinking(text="hm", signature="s", by="anthropic_messages")

    assert told(said(Role.ASSISTANT, foreign), user(), said(Role.USER, Text(text=""))) == [
        {"role": "user", "content": "Hi"}
    ]
    with pytest.raises(NotExpressible):
        told(said(Role.USER, Text(text="")))


def test_earlier_answers_have_reasoning_where_it_is_demanded() -> None:
    history = (user(), said(Role.ASSISTANT, call()), said(Role.USER, result()))

    assert ask("deepseek-v4", messages=history)["messages"][1]["reasoning_content"] == ""
    assert "reasoning_content" not in ask("qwen3", messages=history)["messages"][1]


def test_the_request_fits_the_official_types() -> None:
    body = ask(
        "gpt-5.2",
        messages=(
            said(Role.SYSTEM, Text(text="Be kind.")),
            said(Role.USER, Text(text="See"), PICTURE),
            said(Role.ASSISTANT, call("a"), call("b")),
            said(Role.USER, result("a"), result("b", PICTURE)),
        ),
        tools=(TOOL,),
        tool_choice=ToolChoice(mode="required"),
        parallel_tool_calls=False,
        json_format=JsonFormat(schema={"type": "object"}),
        effort="xhigh",
        max_tokens=9,
        user="u",
        stop=("x",),
        verbosity="low",
    )

    TYPES.validate_python(body, strict=True)


# answers ----------------------------------------------------------------------------------------


def answer(reason: str | None = "stop", /, *, choice: Json | None = None, **message: Any) -> Json:
    """Give a plain body."""
    first = {"index": 0, "message": message, "finish_reason": reason, **(choice or {})}
    return {"id": "chatcmpl-1", "model": "far", "choices": [first]}


def called(name: str = "look", arguments: Any = "{}", **more: Any) -> Json:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


def parts(**message: Any) -> tuple[Part, ...]:
    return parse_response(answer(**message)).parts


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("stop", Stop.END),
        ("eos", Stop.END),
        (None, Stop.END),
        ("length", Stop.LENGTH),
        ("model_length", Stop.LENGTH),
        ("content_filter", Stop.REFUSED),
        ("tool_calls", Stop.END),
        ("SOMETHING_NEW", Stop.END),
    ],
)
def test_every_finish_reason_has_its_meaning(reason: str | None, stop: Stop) -> None:
    assert parse_response(answer(reason, content="Hi")).stop is stop
    assert ended([chunk(content="Hi"), chunk(reason=reason), "[DONE]"]).stop is stop


@pytest.mark.parametrize("reason", ["stop", "tool_calls", "function_call", "", None])
def test_an_answer_with_calls_waits_for_tools_whatever_it_says(reason: str | None) -> None:
    assert parse_response(answer(reason, tool_calls=[called(id="a")])).stop is Stop.TOOLS
    tools = chunk(tool_calls=[{"index": 0, **called(id="a")}], reason=reason)
    assert ended([tools, "[DONE]"]).stop is Stop.TOOLS


@pytest.mark.parametrize("reason", ["error", "abort", "insufficient_system_resource"])
def test_an_ending_that_is_an_error_is_no_answer(reason: str) -> None:
    with pytest.raises(UpstreamProtocolError, match="busy"):
        parse_response(answer(reason, choice={"error": {"message": "busy"}}, content="Hi"))
    with pytest.raises(ValueError, match=reason):
        heard([chunk(content="Hi"), chunk(reason=reason)])


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{"index": 0}]}, {"choices": 1}])
def test_a_body_without_a_message_is_no_answer(body: Json) -> None:
    with pytest.raises(UpstreamProtocolError):
        parse_response(body)


def test_the_sequence_that_ended_it_is_told() -> None:
    body = answer("stop", choice={"stop_reason": "###"}, content="Hi")

    assert parse_response(body).stop_sequence == "###"


def test_a_refusal_is_one() -> None:
    response = parse_response(answer(content=None, refusal="No."))

    assert response.parts == (Refusal(text="No."),)
    assert response.stop is Stop.REFUSED


def test_sources_are_kept_with_the_text() -> None:
    source = {"url": "https://a", "title": "A", "start_index": 0, "end_index": 2}

    (text,) = parts(content="Hi", annotations=[{"type": "url_citation", "url_citation": source}])

    citation = Citation(url="https://a", title="A", start=0, end=2)
    assert text == Text(text="Hi", citations=(citation,))


def test_what_was_spoken_is_read() -> None:
    assert parts(content=None, audio={"id": "a", "data": "", "transcript": "Hi"}) == (
        Text(text="Hi"),
    )


def test_pictures_beside_the_text_are_kept() -> None:
    images = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "image_url", "image_url": {"url": "https://a/b"}},
        {"type": "image_url", "image_url": {"url": "nonsense"}},
    ]

    assert parts(content="", images=images) == (
        Image(source=Inline(media_type="image/png", data="aGk=")),
        Image(source=Link(url="https://a/b")),
    )


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [('{"at":1}', {"at": 1}), ({"at": 1}, {"at": 1}), ("", {}), (" ", {}), (None, {}), ({}, {})],
)
def test_arguments_come_as_text_as_an_object_or_not_at_all(arguments: Any, meant: Json) -> None:
    (found,) = parts(tool_calls=[called("look", arguments, id="a")])

    assert found == ToolCall(id="a", name="look", arguments=meant)


@pytest.mark.parametrize("arguments", ["{", "[1]", 7, '"a"'])
def test_arguments_that_are_no_object_are_an_error_unless_the_answer_was_cut(
    arguments: Any,
) -> None:
    calls = [called("look", arguments, id="a")]

    with pytest.raises(UpstreamProtocolError):
        parse_response(answer("tool_calls", tool_calls=calls))
    assert parse_response(answer("length", tool_calls=calls, content="Hi")).parts == (
        Text(text="Hi"),
    )


def test_calls_without_ids_or_with_the_same_get_their_own() -> None:
    calls = [called(id="a"), called(id="a"), called(), called()]

    ids = [part.id for part in parts(tool_calls=calls) if isinstance(part, ToolCall)]

    assert len(set(ids)) == 4
    assert ids[0] == "a"
    assert all(ids)
    again = [part.id for part in parts(tool_calls=calls) if isinstance(part, ToolCall)]
    assert again == ids


def test_a_function_call_of_the_old_form_is_a_call() -> None:
    (found,) = parts(content=None, function_call={"name": "look", "arguments": '{"at":1}'})

    assert isinstance(found, ToolCall)
    assert (found.name, found.arguments) == ("look", {"at": 1})


def test_counts_are_read_wherever_they_stand() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    body = answer(content="Hi")

    assert parse_response({**body, "usage": usage}).usage == Usage(input_tokens=5, output_tokens=2)
    assert parse_response({**body, "x_groq": {"usage": usage}}).usage is not None
    assert parse_response({**body, "usage": None}).usage is None


# streams ----------------------------------------------------------------------------------------


def chunk(*, reason: str | None = None, **delta: Any) -> Json:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": "chatcmpl-1", "model": "far", "choices": [choice]}


def tool(index: int | None = 0, name: str | None = None, pieces: Any = None, **more: Any) -> Json:
    """Give a chunk with a piece of one call."""
    function = {"name": name, "arguments": pieces}
    item: Json = {"function": {k: v for k, v in function.items() if v is not None}, **more}
    if index is not None:
        item["index"] = index
    return chunk(tool_calls=[item])


def feed(reader: Parser, *bodies: Json | str) -> list[ChatEvent]:
    found: list[ChatEvent] = []
    for body in bodies:
        data = body.encode() if isinstance(body, str) else orjson.dumps(body)
        found += reader.feed(Event("", data), body if isinstance(body, dict) else {})
    return found


def heard(bodies: list[Json | str], limit: int = 10_000) -> list[ChatEvent]:
    """Give what a stream means, the last event left out where the stream is whole."""
    reader = parser(limit)
    return feed(reader, *bodies) + reader.finish()


def ended(bodies: list[Json | str]) -> MessageEnded:
    *_, last = heard(bodies)
    assert isinstance(last, MessageEnded)
    return last


def inner(*bodies: Json | str) -> list[ChatEvent]:
    """Give what stands between the start and the end."""
    first, *between, last = heard([*bodies, "[DONE]"])
    assert isinstance(first, MessageStarted)
    assert isinstance(last, MessageEnded)
    return between


def calls_of(*bodies: Json | str) -> list[tuple[str, str, str]]:
    """Give the calls of a stream: id, name, arguments."""
    found: dict[int, list[str]] = {}
    for event in inner(*bodies):
        if isinstance(event, ToolCallStarted):
            assert event.index == len(found)
            found[event.index] = [event.id, event.name, ""]
        elif isinstance(event, ToolCallDelta):
            assert event.arguments
            found[event.index][2] += event.arguments
    return [(own, name, arguments) for own, name, arguments in found.values()]


def test_a_text_is_a_start_pieces_and_an_end() -> None:
    assert heard([
        chunk(role="assistant", content=""),
        chunk(content="He"),
        chunk(content="llo", reason="stop"),
        {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
        "[DONE]",
    ]) == [
        MessageStarted(id="chatcmpl-1", model="far"),
        TextDelta(text="He"),
        TextDelta(text="llo"),
        BlockEnded(),
        MessageEnded(stop=Stop.END, usage=Usage(input_tokens=5, output_tokens=2)),
    ]  # fmt: skip


def test_the_start_waits_for_a_chunk_with_choices() -> None:
    azure = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{}]}

    assert heard([azure, chunk(content="Hi"), "[DONE]"])[0] == MessageStarted(
        id="chatcmpl-1", model="far"
    )


def test_without_an_end_mark_a_finish_reason_in_the_last_chunk_is_the_end() -> None:
    assert ended([chunk(content="Hi"), chunk(reason="length")]).stop is Stop.LENGTH


@pytest.mark.parametrize(
    "bodies",
    [[], [chunk(content="Hi")], [chunk(content="Hi", reason="stop"), chunk(content="more")]],
)
def test_without_either_there_is_no_end(bodies: list[Json | str]) -> None:
    reader = parser(100)
    events = feed(reader, *bodies)

    assert reader.finish() == []
    assert not reader.ended
    assert not any(isinstance(event, MessageEnded) for event in events)


def test_nothing_counts_after_the_end() -> None:
    reader = parser(100)
    feed(reader, chunk(content="Hi"), "[DONE]")

    assert feed(reader, chunk(content="more"), "[DONE]") == []
    assert reader.finish() == []


def test_an_end_mark_alone_is_an_empty_answer() -> None:
    assert heard(["[DONE]"]) == [MessageStarted(id="", model=""), MessageEnded(stop=Stop.END)]


def test_counts_in_every_chunk_are_those_of_the_last() -> None:
    counted = [
        {**chunk(content="a"), "usage": {"prompt_tokens": 5, "completion_tokens": n}}
        for n in (1, 2, 3)
    ]

    assert ended([*counted, {**chunk(reason="stop"), "usage": None}, "[DONE]"]).usage == Usage(
        input_tokens=5, output_tokens=3
    )


def test_another_choice_is_not_mixed_in() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]}

    assert inner(chunk(content="Hi"), other) == [TextDelta(text="Hi"), BlockEnded()]


def test_refusals_sources_speech_and_pictures_come_as_what_they_are() -> None:
    source = {"type": "url_citation", "url_citation": {"url": "https://a"}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}

    assert inner(
        chunk(content="Hi"),
        chunk(content="", annotations=[source]),
        chunk(audio={"transcript": " there"}),
        chunk(images=[picture]),
        chunk(refusal="No."),
    ) == [
        TextDelta(text="Hi"),
        Cited(citation=Citation(url="https://a")),
        TextDelta(text=" there"),
        BlockEnded(),
        Image(source=Inline(media_type="image/png", data="aGk=")),
        RefusalDelta(text="No."),
        BlockEnded(),
    ]
    assert ended([chunk(refusal="No."), "[DONE]"]).stop is Stop.REFUSED


def test_a_call_is_its_start_then_pieces_of_its_arguments() -> None:
    assert inner(
        chunk(content="Wait."),
        tool(0, "look", "", id="a"),
        tool(0, None, '{"at"'),
        tool(0, None, ":1}"),
    ) == [
        TextDelta(text="Wait."),
        BlockEnded(),
        ToolCallStarted(index=0, id="a", name="look"),
        ToolCallDelta(index=0, arguments='{"at"'),
        ToolCallDelta(index=0, arguments=":1}"),
        BlockEnded(),
    ]


@pytest.mark.parametrize(
    "bodies",
    [
        pytest.param(
            [tool(0, "f", '{"n":1}', id="a"), tool(1, "g", '{"n":2}', id="b")], id="whole"
        ),
        pytest.param(
            [
                tool(0, "f", "", id="a"),
                tool(1, "g", "", id="b"),
                tool(1, None, '{"n"'),
                tool(0, None, '{"n":1}'),
                tool(1, None, ":2}"),
            ],
            id="interleaved",
        ),
        pytest.param(
            [tool(0, "f", '{"n":1}', id="a"), tool(0, "g", '{"n":2}', id="b")],
            id="every index is 0",
        ),
        pytest.param(
            [
                tool(0, "f", "", id="a"),
                tool(0, None, '{"n":1}'),
                tool(0, "g", "", id="b"),
                tool(0, None, '{"n":2}'),
            ],
            id="every index is 0, in pieces",
        ),
        pytest.param(
            [tool(None, "f", '{"n":1}', id="a"), tool(None, "g", '{"n":2}', id="b")],
            id="no index",
        ),
        pytest.param(
            [
                tool(None, "f", '{"n":', id="a"),
                tool(None, None, "1}"),
                tool(None, "g", '{"n"', id="b"),
                tool(None, None, ":2}", id="b"),
            ],
            id="no index, in pieces",
        ),
        pytest.param(
            [
                tool(0, "f", '{"n"', id="a"),
                tool(0, "f", ":1}", id="a"),
                tool(1, "g", '{"n"', id="b"),
                tool(1, "g", ":2}", id="b"),
            ],
            id="id and name in each",
        ),
        pytest.param(
            [
                tool(0, None, '{"n"', id="a"),
                tool(0, "f", ":1}"),
                tool(1, "g"),
                tool(1, None, '{"n":2}', id="b"),
            ],
            id="name or id later",
        ),
        pytest.param(
            [tool(0, "f", {"n": 1}, id="a"), tool(1, "g", {"n": 2}, id="b")], id="objects"
        ),
        pytest.param(
            [
                chunk(
                    tool_calls=[
                        {"index": 0, **called("f", '{"n":1}', id="a")},
                        {"index": 1, **called("g", '{"n":2}', id="b")},
                    ],
                    reason="stop",
                )
            ],
            id="in one chunk with the reason",
        ),
    ],
)
def test_calls_are_told_apart_however_they_come(bodies: list[Json | str]) -> None:
    found = [(own, name, orjson.loads(arguments)) for own, name, arguments in calls_of(*bodies)]

    assert found == [("a", "f", {"n": 1}), ("b", "g", {"n": 2})]


@pytest.mark.parametrize("pieces", [None, "", "null", {}])
def test_a_call_without_arguments_has_an_empty_object(pieces: Any) -> None:
    assert calls_of(tool(0, "look", pieces, id="a")) == [("a", "look", "{}")]


def test_calls_without_ids_get_one_of_their_own_that_does_not_change() -> None:
    bodies: list[Json | str] = [tool(None, "f", '{"n":1}'), tool(None, "g", '{"n":2}')]

    (first, *_), (second, *_) = calls_of(*bodies)

    assert first.startswith("call_")
    assert first != second
    assert calls_of(*bodies)[0][0] == first


def test_the_same_id_for_two_calls_stays_with_the_first() -> None:
    (first, *_), (second, *_) = calls_of(tool(0, "f", "{}", id="a"), tool(1, "g", "{}", id="a"))

    assert first == "a"
    assert second != "a"


def test_a_function_call_of_the_old_form_streams_as_a_call() -> None:
    ((own, name, arguments),) = calls_of(
        chunk(function_call={"name": "look", "arguments": ""}),
        chunk(function_call={"arguments": '{"at":1}'}),
        chunk(reason="function_call"),
    )

    assert own
    assert (name, arguments) == ("look", '{"at":1}')


def test_an_empty_call_is_none() -> None:
    assert inner(chunk(content="Hi"), chunk(tool_calls=[{}, {"index": 0, "function": {}}])) == [
        TextDelta(text="Hi"),
        BlockEnded(),
    ]


def test_a_call_that_never_gets_a_name_cannot_be_followed() -> None:
    with pytest.raises(ValueError, match="no name"):
        heard([tool(0, None, "{}", id="a"), "[DONE]"])
    with pytest.raises(ValueError, match="no name"):
        heard([tool(0, None, "{}", id="a"), chunk(reason="stop")])


def test_what_can_be_held_is_bounded() -> None:
    with pytest.raises(ValueError, match="tool calls"):
        heard([tool(0, None, "x" * 60), tool(0, None, "x" * 60)], limit=100)
    with pytest.raises(ValueError, match="tool calls"):
        heard([tool(n, "f", "{}", id=str(n)) for n in range(MOST_CALLS + 1)])
    details = [{"type": "reasoning.text", "text": "x" * 60}]
    with pytest.raises(ValueError, match="reasoning"):
        heard([chunk(reasoning_details=details)] * 2, limit=100)


# reasoning --------------------------------------------------------------------------------------

SUMMARY = {"type": "reasoning.summary", "summary": "I look.", "index": 0}
TEXTUAL = {"type": "reasoning.text", "text": "I look.", "index": 0, "signature": "c2ln"}
SEALED = {"type": "reasoning.encrypted", "data": "AAAA", "id": "rs_1", "index": 1}
BLOCK = {"type": "thinking", "thinking": "I look.", "signature": "c2ln"}
CLOSED = {"type": "redacted_thinking", "data": "AAAA"}
CHUNK = {"type": "thinking", "thinking": [{"type": "text", "text": "I look."}]}

# What a server says of its reasoning, and what it must get back.
REASONINGS: list[Any] = [
    pytest.param("qwen3", {"reasoning_content": "I look."}, id="DeepSeek, vLLM, xAI"),
    pytest.param("qwen3", {"reasoning": "I look."}, id="Ollama, newer vLLM"),
    pytest.param(
        "qwen3", {"reasoning": "I look.", "reasoning_details": [TEXTUAL]}, id="OpenRouter"
    ),
    pytest.param("qwen3", {"reasoning_details": [TEXTUAL, SEALED]}, id="OpenRouter, two"),
    pytest.param("qwen3", {"reasoning_details": [SUMMARY, SEALED]}, id="OpenRouter, a summary"),
    pytest.param("qwen3", {"reasoning_details": [SEALED]}, id="OpenRouter, sealed alone"),
    pytest.param(
        "qwen3",
        {"reasoning_content": "I look.", "thinking_blocks": [BLOCK, CLOSED]},
        id="LiteLLM",
    ),
]


def thinking_of(events: list[ChatEvent]) -> list[Part]:
    """Give a stream's reasoning as the parts that it adds up to."""
    found: list[Part] = []
    text = signature = ""
    for event in events:
        if isinstance(event, ThinkingDelta):
            text, signature = text + event.text, signature + event.signature
            assert not event.signature or event.by == OURS
        elif isinstance(event, RedactedThinking):
            found.append(event)
        elif text or signature:
            assert isinstance(event, BlockEnded)
            found.append(Thinking(text=text, signature=signature, by=OURS))
            text = signature = ""
    return found


@pytest.mark.parametrize(("model", "message"), REASONINGS)
def test_reasoning_is_signed_and_goes_back_as_it_came(model: str, message: Json) -> None:
    found = parts(content="", tool_calls=[called(id="a")], **message)

    (back, _) = told(said(Role.ASSISTANT, *found), said(Role.USER, result("a")), model=model)

    given = {name: value for name, value in message.items() if name != "reasoning_content"}
    if "thinking_blocks" not in message and "reasoning_details" not in message:
        given = message
    if "reasoning_details" in message:
        given = {"reasoning_details": message["reasoning_details"]}
    assert {name: back[name] for name in back.keys() - {"role", "content", "tool_calls"}} == given


@pytest.mark.parametrize(("model", "message"), REASONINGS)
def test_streamed_reasoning_is_signed_alike(model: str, message: Json) -> None:
    expected = [
        part
        for part in parts(content="Hi", **message)
        if isinstance(part, Thinking | RedactedThinking)
    ]

    found = thinking_of(inner(chunk(**message), chunk(content="Hi")))

    assert found == expected


def test_reasoning_details_in_pieces_add_up() -> None:
    pieces = [
        {"type": "reasoning.text", "text": "I ", "index": 0},
        {"type": "reasoning.text", "text": "look.", "index": 0},
        {"type": "reasoning.text", "signature": "c2ln", "index": 0},
    ]

    found = thinking_of(
        inner(
            *(chunk(reasoning=one.get("text"), reasoning_details=[one]) for one in pieces),
            chunk(content="Hi"),
        )
    )

    assert found == list(parts(content="", reasoning="I look.", reasoning_details=[TEXTUAL]))
    assert isinstance(found[0], Thinking)
    assert "I look." not in found[0].signature


def test_reasoning_comes_in_pieces_and_ends_signed_before_the_words() -> None:
    assert inner(
        chunk(reasoning_content="I "), chunk(reasoning_content="look."), chunk(content="Hi")
    ) == [
        ThinkingDelta(text="I "),
        ThinkingDelta(text="look."),
        ThinkingDelta(signature="reasoning_content", by=OURS),
        BlockEnded(),
        TextDelta(text="Hi"),
        BlockEnded(),
    ]


def test_the_same_words_in_two_fields_are_said_once() -> None:
    message = {"reasoning": "hm", "reasoning_content": "hm"}

    assert parts(content="", **message) == (
        Thinking(text="hm", signature="reasoning_content", by=OURS),
    )
    assert inner(chunk(**message))[0] == ThinkingDelta(text="hm")


def test_mistrals_thinking_is_a_part_of_the_content_and_goes_back_there() -> None:
    content = [CHUNK, {"type": "text", "text": "Hi"}]

    found = parts(content=content)

    thought = Thinking(text="I look.", signature="thinking", by=OURS)
    assert found == (thought, Text(text="Hi"))
    (back, _) = told(said(Role.ASSISTANT, *found), user(), model="magistral-medium")
    assert back["content"] == content
    assert "thinking" not in str(told(said(Role.ASSISTANT, *found), user()))
    assert thinking_of(inner(chunk(content=[CHUNK]), chunk(content="Hi"))) == [thought]


@pytest.mark.parametrize("model", ["gpt-5", "mistral-large"])
def test_reasoning_is_kept_from_those_that_refuse_the_field(model: str) -> None:
    thought = Thinking(text="hm", signature="reasoning_content", by=OURS)

    (back, _) = told(said(Role.ASSISTANT, thought, Text(text="Hi")), user(), model=model)

    assert back == {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize(
    "signature", ["reasoning_details:{", "reasoning_details:7", "nonsense", ""]
)
def test_a_signature_that_is_not_ours_gives_nothing_back(signature: str) -> None:
    thought = Thinking(text="hm", signature=signature, by=OURS)

    (back, _) = told(said(Role.ASSISTANT, thought, Text(text="Hi")), user())

    assert back == {"role": "assistant", "content": "Hi"}


def test_a_signature_under_a_call_goes_back_with_it() -> None:
    extra = {"google": {"thought_signature": "c2ln"}}
    (found,) = parts(tool_calls=[called(id="a", extra_content=extra)])

    (back, _) = told(said(Role.ASSISTANT, found), said(Role.USER, result("a")), model="gemini-3")

    assert back["tool_calls"][0]["extra_content"] == extra
    (started, *_) = inner(tool(0, "look", "{}", id="a", extra_content=extra))
    assert started == ToolCallStarted(index=0, id="a", name="look", signature="c2ln", by=OURS)


# whatever comes ---------------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "a", "{}", "thinking"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)
ITEMS = st.lists(
    ANYTHING
    | st.fixed_dictionaries(
        {},
        optional={
            "index": ANYTHING,
            "id": ANYTHING,
            "type": ANYTHING,
            "text": ANYTHING,
            "thinking": ANYTHING,
            "signature": ANYTHING,
            "data": ANYTHING,
            "image_url": ANYTHING,
            "function": ANYTHING
            | st.fixed_dictionaries({}, optional={"name": ANYTHING, "arguments": ANYTHING}),
        },
    ),
    max_size=3,
)
DELTAS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        (
            "content", "refusal", "reasoning", "reasoning_content", "reasoning_details",
            "thinking_blocks", "tool_calls", "function_call", "annotations", "images", "audio",
        ),
        ANYTHING | ITEMS,
    ),
)  # fmt: skip
CHOICES = st.fixed_dictionaries(
    {"index": st.sampled_from([0, 0, 0, None, 1])},
    optional={"delta": ANYTHING | DELTAS, "finish_reason": ANYTHING | st.just("stop")},
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "id": ANYTHING,
        "choices": ANYTHING | st.lists(CHOICES, min_size=1, max_size=2),
        "usage": ANYTHING | st.just({"prompt_tokens": 1}),
    },
)


@settings(max_examples=300)
@given(st.lists(BODIES, max_size=8))
def test_whatever_comes_is_events_in_their_order_or_a_value_error(bodies: list[Json]) -> None:
    reader = parser(10_000)
    try:
        events = feed(reader, *bodies, "[DONE]")
    except ValueError:
        return

    assert isinstance(events[0], MessageStarted)
    assert isinstance(events[-1], MessageEnded)
    assert sum(isinstance(event, MessageStarted | MessageEnded) for event in events) == 2
    started = [event.index for event in events if isinstance(event, ToolCallStarted)]
    assert started == list(range(len(started)))
    for event in events:
        if isinstance(event, TextDelta | RefusalDelta):
            assert event.text
    assert reader.usage is None or reader.usage.input_tokens <= 1


@settings(max_examples=300)
@given(BODIES | st.builds(lambda delta: {"choices": [{"message": delta}]}, DELTAS))
def test_whatever_comes_plain_is_an_answer_or_none(body: Json) -> None:
    with suppress(UpstreamProtocolError):
        parse_response(body)
