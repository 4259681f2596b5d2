"""The Anthropic SDK, synchronous and asynchronous."""

from functools import partial

import anthropic
from pydantic import BaseModel
from run import Target

MODEL = "claude-sonnet-4-5"
WEATHER = {
    "name": "weather",
    "description": "How warm it is.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


class City(BaseModel):
    city: str
    degrees: int


def sync(at: Target, **options):
    options = {"api_key": at.key, "max_retries": 0, **options}
    return anthropic.Anthropic(base_url=at.url, **options)


def asynchronous(at: Target, **options):
    options = {"api_key": at.key, "max_retries": 0, **options}
    return anthropic.AsyncAnthropic(base_url=at.url, **options)


def asked(at: Target, scenario: str, **more):
    messages = [{"role": "user", "content": at.say(scenario)}]
    asking = {"model": MODEL, "max_tokens": 1024, "system": "Be brief.", "messages": messages}
    return asking | more


def blocks(message):
    return [
        {
            "type": block.type,
            **({"text": block.text} if block.type == "text" else {}),
            **(
                {"name": block.name, "input": block.input, "identified": bool(block.id)}
                if block.type == "tool_use"
                else {}
            ),
            **({"thinking": block.thinking} if block.type == "thinking" else {}),
        }
        for block in message.content
    ]


def whole(message):
    return {
        "type": message.type,
        "role": message.role,
        "content": blocks(message),
        "stop": message.stop_reason,
        "usage": {
            "in": message.usage.input_tokens,
            "out": message.usage.output_tokens,
            "cached": message.usage.cache_read_input_tokens or 0,
        },
        "exact": message.model_dump(mode="json"),
    }


def failure(error):
    seen = {"class": type(error).__name__, "bases": [base.__name__ for base in type(error).mro()]}
    if isinstance(error, anthropic.APIStatusError):
        seen |= {
            "status": error.status_code,
            "identified": bool(error.request_id),
            "retry_after": error.response.headers.get("retry-after"),
            "type": error.body["error"]["type"],
            "exact": {"body": error.body},
        }
    return seen


def case_text(at):
    with sync(at) as client:
        message = client.messages.create(**asked(at, "text"))
        return whole(message) | {"identified": bool(message._request_id)}


async def case_text_async(at):
    async with asynchronous(at) as client:
        return whole(await client.messages.create(**asked(at, "text")))


def case_stop_sequences(at):
    with sync(at) as client:
        return whole(client.messages.create(**asked(at, "text", stop_sequences=["###"])))


def case_count_tokens(at):
    with sync(at) as client:
        asking = asked(at, "text")
        del asking["max_tokens"]
        counted = client.messages.count_tokens(**asking).input_tokens
        return {"counted": counted > 0, "exact": counted}


def case_long(at):
    with sync(at) as client:
        return whole(client.messages.create(**asked(at, "long", max_tokens=7)))


def case_cached(at):
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    with sync(at) as client:
        return whole(client.messages.create(**asked(at, "cached", system=system)))


def case_thinking(at):
    thinking = {"type": "enabled", "budget_tokens": 2048}
    more = {"thinking": thinking, "max_tokens": 4096}
    with sync(at) as client:
        message = client.messages.create(**asked(at, "thinking", **more))
        return {"exact": whole(message)}


def event(given):
    """Say what an event is, and what it adds."""
    seen = {"type": given.type}
    if given.type.startswith("content_block"):
        seen["index"] = given.index
    if given.type == "content_block_start":
        seen["block"] = given.content_block.type
    if given.type == "content_block_delta":
        seen["delta"] = given.delta.type
    if given.type == "message_delta":
        seen["stop"] = given.delta.stop_reason
        seen["out"] = given.usage.output_tokens
    return seen


def without_pieces(given):
    """Leave each run of deltas of one kind as one: vendors cut them differently."""
    kept = []
    for each in given:
        if each["type"] != "ping" and (not kept or kept[-1] != each):
            kept.append(each)
    return kept


def case_stream(at):
    with sync(at) as client:
        given = list(client.messages.create(**asked(at, "text", stream=True)))
        deltas = [each.delta.text for each in given if each.type == "content_block_delta"]
        return {
            "events": without_pieces(map(event, given)),
            "deltas": deltas,
            "exact": [each.model_dump(mode="json") for each in given],
        }


async def case_stream_tools_async(at):
    async with asynchronous(at) as client:
        stream = await client.messages.create(
            **asked(at, "two-tools", stream=True, tools=[WEATHER], tool_choice={"type": "any"})
        )
        given = [each async for each in stream]
        return {
            "events": without_pieces(map(event, given)),
            "exact": [each.model_dump(mode="json") for each in given],
        }


def case_helper(at):
    with sync(at) as client, client.messages.stream(**asked(at, "text")) as stream:
        said = list(stream.text_stream)
        return {"said": said, "identified": bool(stream.request_id)} | whole(
            stream.get_final_message()
        )


async def case_helper_async(at):
    async with (
        asynchronous(at) as client,
        client.messages.stream(**asked(at, "talk-and-tool", tools=[WEATHER])) as stream,
    ):
        kinds = [each.type async for each in stream]
        message = await stream.get_final_message()
        return {"exact_kinds": None, "exact": kinds} | {
            "message": {**whole(message), "exact": None},
            "text": await stream.get_final_text(),
        }


def case_helper_thinking(at):
    thinking = {"type": "enabled", "budget_tokens": 2048}
    more = {"thinking": thinking, "max_tokens": 4096}
    with sync(at) as client, client.messages.stream(**asked(at, "thinking", **more)) as stream:
        return {"exact": [[each.type for each in stream], whole(stream.get_final_message())]}


def case_parse(at):
    with sync(at) as client:
        message = client.messages.parse(**asked(at, "json", output_format=City))
        return whole(message) | {"parsed": message.parsed_output.model_dump()}


def told(at, scenario, **more):
    """Call the tools that are asked for, until there is an answer."""
    seen, asking = [], asked(at, scenario, tools=[WEATHER], **more)
    with sync(at) as client:
        for _ in range(3):
            message = client.messages.create(**asking)
            seen.append(whole(message))
            if message.stop_reason != "tool_use":
                break
            asking["messages"] += [
                {"role": "assistant", "content": message.content},
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": block.id, "content": "3 degrees"}
                        for block in message.content
                        if block.type == "tool_use"
                    ],
                },
            ]
    exact = [turn.pop("exact") for turn in seen]
    return {"turns": seen, "exact": exact}


case_tool = partial(told, scenario="tool")
case_talk_and_tool = partial(told, scenario="talk-and-tool", tool_choice={"type": "auto"})
case_two_tools = partial(told, scenario="two-tools")


def case_tool_runner(at):
    called = []

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """How warm it is.

        Args:
            city: Its name.
        """
        called.append(city)
        return "3 degrees"

    with sync(at) as client:
        runner = client.beta.messages.tool_runner(**asked(at, "two-tools", tools=[weather]))
        last = runner.until_done()
        return {"called": called, **whole(last)}


def case_tool_runner_streamed(at):
    called = []

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """How warm it is.

        Args:
            city: Its name.
        """
        called.append(city)
        return "3 degrees"

    with sync(at) as client:
        runner = client.beta.messages.tool_runner(**asked(at, "tool", tools=[weather]), stream=True)
        turns = [whole(stream.get_final_message()) for stream in runner]
        exact = [turn.pop("exact") for turn in turns]
        return {"called": called, "turns": turns, "exact": exact}


def refused(at, scenario):
    with sync(at) as client:
        try:
            client.messages.create(**asked(at, scenario))
        except anthropic.APIError as error:
            return failure(error)


case_error_400 = partial(refused, scenario="status-400")
case_error_403 = partial(refused, scenario="status-403")
case_error_404 = partial(refused, scenario="status-404")
case_error_409 = partial(refused, scenario="status-409")
case_error_413 = partial(refused, scenario="status-413")
case_error_422 = partial(refused, scenario="status-422")
case_error_429 = partial(refused, scenario="status-429")
case_error_500 = partial(refused, scenario="status-500")
case_error_overloaded = partial(refused, scenario="overloaded")


async def case_error_overloaded_stream_async(at):
    async with asynchronous(at) as client:
        try:
            async with client.messages.stream(**asked(at, "overloaded")) as stream:
                await stream.get_final_message()
        except anthropic.APIError as error:
            return failure(error)


def case_wrong_key(at):
    with sync(at, api_key="sk-wrong") as client:
        try:
            client.messages.create(**asked(at, "text"))
        except anthropic.APIError as error:
            return failure(error) | {"exact": None}


def case_retried(at):
    with sync(at, max_retries=2) as client:
        return whole(client.messages.create(**asked(at, "once-500")))


def case_timeout(at):
    with sync(at, timeout=0.4) as client:
        try:
            client.messages.create(**asked(at, "hangs"))
        except anthropic.APIError as error:
            return failure(error)


def case_abort(at):
    with sync(at) as client, client.messages.stream(**asked(at, "stalls")) as stream:
        for text in stream.text_stream:
            return {"said": text}


async def case_abort_async(at):
    async with asynchronous(at) as client:
        stream = await client.messages.create(**asked(at, "stalls", stream=True))
        async for each in stream:
            if each.type == "content_block_delta":
                await stream.close()
                return {"said": each.delta.text}


def broken(at, scenario):
    said, stop = "", None
    with sync(at) as client:
        try:
            for each in client.messages.create(**asked(at, scenario, stream=True)):
                if each.type == "content_block_delta":
                    said += each.delta.text
                if each.type == "message_delta":
                    stop = each.delta.stop_reason
        except Exception:  # noqa: BLE001  # the SDK lets some of its transport's errors through
            return {"said": said, "stop": stop, "failed": True}
    return {"said": said, "stop": stop, "failed": False}


case_drops = partial(broken, scenario="drops")
case_ends = partial(broken, scenario="ends")
case_errs = partial(broken, scenario="errs")


def case_models(at):
    with sync(at) as client:
        listed = [model.id for model in client.models.list()]
        return {"models": sorted(listed), "one": client.models.retrieve(MODEL).id}


async def case_models_async(at):
    async with asynchronous(at) as client:
        return {"models": sorted([model.id async for model in client.models.list(limit=20)])}
