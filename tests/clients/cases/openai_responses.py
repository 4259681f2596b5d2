"""The OpenAI SDK, responses, synchronous and asynchronous."""

import json
from functools import partial

import openai
from pydantic import BaseModel
from run import Target

MODEL = "gpt-4.1"
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "How warm it is.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class City(BaseModel):
    city: str
    degrees: int


def sync(at: Target, **options):
    return openai.OpenAI(base_url=at.v1, **{"api_key": at.key, "max_retries": 0, **options})


def asynchronous(at: Target, **options):
    options = {"api_key": at.key, "max_retries": 0, **options}
    return openai.AsyncOpenAI(base_url=at.v1, **options)


def asked(at: Target, scenario: str, **more):
    return {"model": MODEL, "instructions": "Be brief.", "input": at.say(scenario), **more}


def calls(response):
    return [
        {
            "name": item.name,
            "arguments": json.loads(item.arguments),
            "identified": bool(item.call_id),
        }
        for item in response.output
        if item.type == "function_call"
    ]


def whole(response):
    usage = response.usage
    return {
        "text": response.output_text,
        "calls": calls(response),
        "items": [[item.type, getattr(item, "status", None)] for item in response.output],
        "status": response.status,
        "incomplete": response.incomplete_details and response.incomplete_details.reason,
        "error": response.error,
        "usage": {
            "in": usage.input_tokens,
            "out": usage.output_tokens,
            "total": usage.total_tokens,
            "cached": usage.input_tokens_details.cached_tokens,
            "reasoning": usage.output_tokens_details.reasoning_tokens,
        },
        "object": response.object,
        "exact": response.model_dump(mode="json", warnings=False),
    }


def failure(error):
    seen = {"class": type(error).__name__, "bases": [base.__name__ for base in type(error).mro()]}
    if isinstance(error, openai.APIStatusError):
        seen |= {
            "status": error.status_code,
            "identified": bool(error.request_id),
            "retry_after": error.response.headers.get("retry-after"),
            "exact": {"message": error.message, "code": error.code, "type": error.type},
        }
    return seen


def case_text(at):
    with sync(at) as client:
        response = client.responses.create(**asked(at, "text", temperature=0.5))
        return whole(response) | {"identified": bool(response._request_id)}


async def case_text_async(at):
    said = [{"role": "user", "content": [{"type": "input_text", "text": at.say("text")}]}]
    more = {"input": said, "max_output_tokens": 99, "store": False}
    async with asynchronous(at) as client:
        return whole(await client.responses.create(**asked(at, "text", **more)))


def case_long(at):
    with sync(at) as client:
        return whole(client.responses.create(**asked(at, "long", max_output_tokens=17)))


def case_cached(at):
    with sync(at) as client:
        return whole(client.responses.create(**asked(at, "cached")))


def case_reasoning(at):
    with sync(at) as client:
        reasoning = {"effort": "low", "summary": "auto"}
        response = client.responses.create(**asked(at, "thinking", reasoning=reasoning))
        return {"text": response.output_text, "exact": whole(response)}


def events(given):
    """Say what was told, each run of one kind of event as one: vendors cut deltas differently."""
    kinds, deltas, last = [], [], None
    numbers = [each.sequence_number for each in given]
    for each in given:
        if not kinds or kinds[-1] != each.type:
            kinds.append(each.type)
        if each.type == "response.output_text.delta":
            deltas.append(each.delta)
        last = each
    return {
        "kinds": kinds,
        "deltas": deltas,
        "numbered": numbers == list(range(len(numbers))),
        "ended": whole(last.response) | {"exact": None},
    }


def case_stream(at):
    with sync(at) as client:
        given = list(client.responses.create(**asked(at, "text", stream=True)))
        exact = [each.model_dump(mode="json", warnings=False) for each in given]
        return events(given) | {"exact": exact}


async def case_stream_async(at):
    async with asynchronous(at) as client:
        stream = await client.responses.create(**asked(at, "long", stream=True))
        return events([each async for each in stream])


def case_helper(at):
    with sync(at) as client, client.responses.stream(**asked(at, "text")) as stream:
        seen = events(list(stream))
        return seen | whole(stream.get_final_response())


async def case_helper_tools_async(at):
    async with (
        asynchronous(at) as client,
        client.responses.stream(**asked(at, "two-tools", tools=[WEATHER])) as stream,
    ):
        seen = events([each async for each in stream])
        return seen | whole(await stream.get_final_response())


def case_parse(at):
    with sync(at) as client:
        response = client.responses.parse(**asked(at, "json", text_format=City))
        parsed = response.output_parsed
        return whole(response) | {"parsed": parsed.model_dump(), "class": type(parsed).__name__}


def case_helper_parse(at):
    with (
        sync(at) as client,
        client.responses.stream(**asked(at, "json", text_format=City)) as stream,
    ):
        seen = events(list(stream))
        return seen | {"parsed": stream.get_final_response().output_parsed.model_dump()}


def told(at, scenario, **more):
    """Call the tools that are asked for, until there is an answer."""
    seen, asking = [], asked(at, scenario, tools=[WEATHER], **more)
    asking["input"] = [{"role": "user", "content": asking["input"]}]
    with sync(at) as client:
        for _ in range(3):
            response = client.responses.create(**asking)
            seen.append(whole(response))
            called = [item for item in response.output if item.type == "function_call"]
            if not called:
                break
            asking["input"] += response.output
            asking["input"] += [
                {"type": "function_call_output", "call_id": item.call_id, "output": "3 degrees"}
                for item in called
            ]
    exact = [turn.pop("exact") for turn in seen]
    return {"turns": seen, "exact": exact}


case_tool = partial(told, scenario="tool")
case_talk_and_tool = partial(told, scenario="talk-and-tool", tool_choice="auto")
case_two_tools = partial(told, scenario="two-tools", parallel_tool_calls=True)


def case_tool_stream(at):
    with sync(at) as client:
        more = {"stream": True, "tools": [WEATHER], "tool_choice": "required"}
        given = list(client.responses.create(**asked(at, "two-tools", **more)))
        pieces = {}
        for each in given:
            if each.type == "response.function_call_arguments.delta":
                pieces[each.output_index] = pieces.get(each.output_index, "") + each.delta
        arguments = {index: json.loads(text) for index, text in pieces.items()}
        return events(given) | {"arguments": arguments}


def case_refusal(at):
    with sync(at) as client:
        response = client.responses.create(**asked(at, "refusal"))
        return {"exact": response.model_dump(mode="json", warnings=False)}


def refused(at, scenario):
    with sync(at) as client:
        try:
            client.responses.create(**asked(at, scenario))
        except openai.APIError as error:
            return failure(error)


case_error_400 = partial(refused, scenario="status-400")
case_error_403 = partial(refused, scenario="status-403")
case_error_404 = partial(refused, scenario="status-404")
case_error_409 = partial(refused, scenario="status-409")
case_error_422 = partial(refused, scenario="status-422")
case_error_429 = partial(refused, scenario="status-429")
case_error_500 = partial(refused, scenario="status-500")
case_error_overloaded = partial(refused, scenario="overloaded")


async def case_error_429_stream_async(at):
    async with asynchronous(at) as client:
        try:
            await client.responses.create(**asked(at, "status-429", stream=True))
        except openai.APIError as error:
            return failure(error)


def case_wrong_key(at):
    with sync(at, api_key="sk-wrong") as client:
        try:
            client.responses.create(**asked(at, "text"))
        except openai.APIError as error:
            return failure(error) | {"exact": None}


def case_retried(at):
    with sync(at, max_retries=2) as client:
        return whole(client.responses.create(**asked(at, "once-500")))


def case_timeout(at):
    with sync(at, timeout=0.4) as client:
        try:
            client.responses.create(**asked(at, "hangs"))
        except openai.APIError as error:
            return failure(error)


def case_abort(at):
    with sync(at) as client, client.responses.create(**asked(at, "stalls", stream=True)) as stream:
        for each in stream:
            if each.type == "response.output_text.delta":
                return {"said": each.delta}


async def case_abort_async(at):
    async with asynchronous(at) as client:
        stream = await client.responses.create(**asked(at, "stalls", stream=True))
        async for each in stream:
            if each.type == "response.output_text.delta":
                await stream.close()
                return {"said": each.delta}


def broken(at, scenario):
    """Go through a stream that breaks off; OpenAI's own event for an error is no exception."""
    said, ended, kinds = "", False, set()
    with sync(at) as client:
        try:
            for each in client.responses.create(**asked(at, scenario, stream=True)):
                kinds.add(each.type)
                if each.type == "response.output_text.delta":
                    said += each.delta
                ended = ended or each.type == "response.completed"
        except openai.APIError:
            return {"said": said, "ended": ended, "failed": True}
    failed = scenario == "errs" and "error" in kinds
    return {"said": said, "ended": ended, "failed": failed}


case_drops = partial(broken, scenario="drops")
case_ends = partial(broken, scenario="ends")
case_errs = partial(broken, scenario="errs")
