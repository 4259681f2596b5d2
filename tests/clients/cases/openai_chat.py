"""The OpenAI SDK, chat completions, synchronous and asynchronous."""

import json
from functools import partial

import openai
from pydantic import BaseModel
from run import Target

MODEL = "gpt-4.1"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How warm it is.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
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
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": at.say(scenario)},
    ]
    return {"model": MODEL, "messages": messages, **more}


def usage(given):
    details = given.prompt_tokens_details
    return {
        "in": given.prompt_tokens,
        "out": given.completion_tokens,
        "total": given.total_tokens,
        "cached": details.cached_tokens if details else 0,
    }


def calls(message):
    return [
        {
            "name": call.function.name,
            "arguments": json.loads(call.function.arguments),
            "identified": bool(call.id),
            "type": call.type,
        }
        for call in message.tool_calls or ()
    ]


def whole(completion):
    choice = completion.choices[0]
    return {
        "text": choice.message.content,
        "role": choice.message.role,
        "calls": calls(choice.message),
        "finish": choice.finish_reason,
        "usage": usage(completion.usage) if completion.usage else None,
        "object": completion.object,
        "choices": len(completion.choices),
        "exact": completion.model_dump(mode="json"),
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
        completion = client.chat.completions.create(**asked(at, "text", temperature=0.5))
        return whole(completion) | {"identified": bool(completion._request_id)}


async def case_text_async(at):
    async with asynchronous(at) as client:
        return whole(await client.chat.completions.create(**asked(at, "text", max_tokens=99)))


def case_long(at):
    with sync(at) as client:
        return whole(client.chat.completions.create(**asked(at, "long", max_completion_tokens=7)))


def case_cached(at):
    with sync(at) as client:
        return whole(client.chat.completions.create(**asked(at, "cached", stop=["###"])))


def streamed(chunks):
    seen = {"deltas": [], "finish": [], "usage": [], "roles": [], "after_the_finish": 0}
    exact = []
    for chunk in chunks:
        exact.append(chunk.model_dump(mode="json"))
        if chunk.usage:
            seen["usage"].append(usage(chunk.usage))
        for choice in chunk.choices:
            seen["after_the_finish"] += bool(seen["finish"])
            if choice.delta.role:
                seen["roles"].append(choice.delta.role)
            if choice.delta.content:
                seen["deltas"].append(choice.delta.content)
            if choice.finish_reason:
                seen["finish"].append(choice.finish_reason)
    return seen | {"exact": exact}


def case_stream(at):
    more = {"stream": True, "stream_options": {"include_usage": True}}
    with sync(at) as client:
        return streamed(client.chat.completions.create(**asked(at, "text", **more)))


async def case_stream_async(at):
    async with asynchronous(at) as client:
        chunks = await client.chat.completions.create(**asked(at, "long", stream=True))
        return streamed([chunk async for chunk in chunks])


def case_stream_raw(at):
    with (
        sync(at) as client,
        client.chat.completions.with_streaming_response.create(
            **asked(at, "text", stream=True)
        ) as response,
    ):
        lines = [line for line in response.iter_lines() if line]
        return {
            "status": response.status_code,
            "type": response.headers["content-type"].partition(";")[0],
            "identified": bool(response.request_id),
            "last": lines[-1],
            "exact": lines,
        }


def events(stream):
    kinds, deltas = [], []
    for event in stream:
        kinds.append(event.type)
        if event.type == "content.delta":
            deltas.append(event.delta)
    return {"kinds": kinds, "deltas": deltas}


def case_helper(at):
    more = {"stream_options": {"include_usage": True}}
    with sync(at) as client, client.chat.completions.stream(**asked(at, "text", **more)) as stream:
        return events(stream) | whole(stream.get_final_completion())


async def case_helper_tools_async(at):
    async with (
        asynchronous(at) as client,
        client.chat.completions.stream(**asked(at, "two-tools", tools=[WEATHER])) as stream,
    ):
        kinds = [event.type async for event in stream]
        return {"kinds": kinds} | whole(await stream.get_final_completion())


def case_parse(at):
    with sync(at) as client:
        completion = client.chat.completions.parse(**asked(at, "json", response_format=City))
        parsed = completion.choices[0].message.parsed
        return whole(completion) | {"parsed": parsed.model_dump(), "class": type(parsed).__name__}


def case_helper_parse(at):
    with (
        sync(at) as client,
        client.chat.completions.stream(**asked(at, "json", response_format=City)) as stream,
    ):
        seen = events(stream)
        completion = stream.get_final_completion()
        return seen | {"parsed": completion.choices[0].message.parsed.model_dump()}


def told(at, scenario, **more):
    """Call the tools that are asked for, until there is an answer."""
    seen, asking = [], asked(at, scenario, tools=[WEATHER], **more)
    with sync(at) as client:
        for _ in range(3):
            completion = client.chat.completions.create(**asking)
            seen.append(whole(completion))
            message = completion.choices[0].message
            if not message.tool_calls:
                break
            asking["messages"].append(message)
            asking["messages"] += [
                {"role": "tool", "tool_call_id": call.id, "content": "3 degrees"}
                for call in message.tool_calls
            ]
    exact = [turn.pop("exact") for turn in seen]
    return {"turns": seen, "exact": exact}


case_tool = partial(told, scenario="tool")
case_talk_and_tool = partial(told, scenario="talk-and-tool", tool_choice="auto")
case_two_tools = partial(told, scenario="two-tools", parallel_tool_calls=True)


def case_tool_stream(at):
    with sync(at) as client:
        names, pieces, finish, exact = [], {}, [], []
        more = {"stream": True, "tools": [WEATHER], "tool_choice": "required"}
        for chunk in client.chat.completions.create(**asked(at, "two-tools", **more)):
            exact.append(chunk.model_dump(mode="json"))
            for choice in chunk.choices:
                finish += [choice.finish_reason] if choice.finish_reason else []
                for call in choice.delta.tool_calls or ():
                    names += [[call.index, call.function.name]] if call.id else []
                    pieces[call.index] = pieces.get(call.index, "") + (
                        call.function.arguments or ""
                    )
        arguments = {index: json.loads(text) for index, text in pieces.items()}
        return {"names": names, "arguments": arguments, "finish": finish, "exact": exact}


def case_refusal(at):
    with sync(at) as client:
        choice = client.chat.completions.create(**asked(at, "refusal")).choices[0]
        return {"exact": {"refusal": choice.message.refusal, "finish": choice.finish_reason}}


def refused(at, scenario):
    with sync(at) as client:
        try:
            client.chat.completions.create(**asked(at, scenario))
        except openai.APIError as error:
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


async def case_error_429_stream_async(at):
    async with asynchronous(at) as client:
        try:
            await client.chat.completions.create(**asked(at, "status-429", stream=True))
        except openai.APIError as error:
            return failure(error)


def case_wrong_key(at):
    with sync(at, api_key="sk-wrong") as client:
        try:
            client.chat.completions.create(**asked(at, "text"))
        except openai.APIError as error:
            return failure(error) | {"exact": None}


def case_retried(at):
    with sync(at, max_retries=2) as client:
        return whole(client.chat.completions.create(**asked(at, "once-500")))


def case_timeout(at):
    with sync(at, timeout=0.4) as client:
        try:
            client.chat.completions.create(**asked(at, "hangs"))
        except openai.APIError as error:
            return failure(error)


async def case_timeout_stream_async(at):
    async with asynchronous(at, timeout=0.4) as client:
        said = ""
        try:
            async for chunk in await client.chat.completions.create(
                **asked(at, "stalls", stream=True)
            ):
                said += chunk.choices[0].delta.content or ""
        except openai.APITimeoutError:
            return {"said": said, "timed_out": True}
        except Exception as error:  # noqa: BLE001  # versions differ in wrapping it
            return {"said": said, "timed_out": "Timeout" in type(error).__name__}


def case_abort(at):
    with sync(at) as client:
        with client.chat.completions.create(**asked(at, "stalls", stream=True)) as stream:
            for chunk in stream:
                if chunk.choices[0].delta.content:
                    return {"said": chunk.choices[0].delta.content}


async def case_abort_async(at):
    async with asynchronous(at) as client:
        stream = await client.chat.completions.create(**asked(at, "stalls", stream=True))
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                await stream.close()
                return {"said": chunk.choices[0].delta.content}


def broken(at, scenario):
    said, finish = "", None
    with sync(at) as client:
        try:
            for chunk in client.chat.completions.create(**asked(at, scenario, stream=True)):
                said += chunk.choices[0].delta.content or ""
                finish = finish or chunk.choices[0].finish_reason
        except Exception:  # noqa: BLE001  # the SDK lets some of its transport's errors through
            return {"said": said, "finish": finish, "failed": True}
    return {"said": said, "finish": finish, "failed": False}


case_drops = partial(broken, scenario="drops")
case_ends = partial(broken, scenario="ends")
case_errs = partial(broken, scenario="errs")


def case_models(at):
    with sync(at) as client:
        listed = [model.id for model in client.models.list()]
        return {"models": sorted(listed), "one": client.models.retrieve(MODEL).id}


async def case_models_async(at):
    async with asynchronous(at) as client:
        return {"models": sorted([model.id async for model in client.models.list()])}


def case_embeddings(at):
    with sync(at) as client:
        model, texts = "text-embedding-3-small", [at.say("text"), "Hello"]
        embedded = client.embeddings.create(model=model, input=texts)
        return {
            "vectors": [each.embedding for each in embedded.data],
            "usage": embedded.usage.total_tokens,
            "exact": embedded.model_dump(mode="json"),
        }
