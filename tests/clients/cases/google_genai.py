"""Google's Gen AI SDK, synchronous and asynchronous."""

import json
from functools import partial

from google import genai
from google.genai import errors, types
from pydantic import BaseModel
from run import Target

MODEL = "gemini-2.5-flash"
WEATHER = {
    "function_declarations": [
        {
            "name": "weather",
            "description": "How warm it is.",
            "parameters_json_schema": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        }
    ]
}


class City(BaseModel):
    city: str
    degrees: int


def client_of(at: Target, **options):
    key = options.pop("api_key", at.key)
    return genai.Client(api_key=key, http_options={"base_url": at.url, **options})


def asked(at: Target, scenario: str, **config):
    config = {"system_instruction": "Be brief.", **config}
    return {"model": MODEL, "contents": at.say(scenario), "config": config}


def parts(content):
    return [
        {"text": part.text}
        if part.text is not None
        else {"name": part.function_call.name, "args": part.function_call.args}
        for part in (content.parts if content else None) or ()
    ]


def usage(given):
    return {
        "in": given.prompt_token_count,
        "out": given.candidates_token_count,
        "total": given.total_token_count,
        "cached": given.cached_content_token_count or 0,
    }


def whole(response):
    candidate = response.candidates[0]
    return {
        "parts": parts(candidate.content),
        "role": candidate.content.role,
        "finish": candidate.finish_reason,
        "usage": usage(response.usage_metadata),
        "identified": bool(response.response_id),
        "exact": response.model_dump(mode="json", exclude={"sdk_http_response"}),
    }


def failure(error):
    return {
        "class": type(error).__name__,
        "status": error.code,
        "named": error.status,
        "exact": {"message": error.message, "details": error.details},
    }


def case_text(at):
    with client_of(at) as client:
        response = client.models.generate_content(**asked(at, "text", temperature=0.5))
        return whole(response) | {"text": response.text}


async def case_text_async(at):
    async with client_of(at).aio as client:
        asking = asked(at, "text", max_output_tokens=99)
        return whole(await client.models.generate_content(**asking))


def case_stop_sequences(at):
    with client_of(at) as client:
        asking = asked(at, "text", stop_sequences=["###"])
        return whole(client.models.generate_content(**asking))


def case_long(at):
    with client_of(at) as client:
        return whole(client.models.generate_content(**asked(at, "long", max_output_tokens=17)))


def case_cached(at):
    with client_of(at) as client:
        return whole(client.models.generate_content(**asked(at, "cached")))


def case_thinking(at):
    thinking = {"thinking_budget": 2048, "include_thoughts": True}
    with client_of(at) as client:
        more = {"thinking_config": thinking, "max_output_tokens": 4096}
        response = client.models.generate_content(**asked(at, "thinking", **more))
        return {"text": response.text, "exact": whole(response)}


def streamed(chunks):
    """Say what was told; vendors tell the end with the last piece, or after it."""
    return {
        "deltas": [chunk.text for chunk in chunks if chunk.text],
        "calls": [
            {"name": call.name, "args": call.args}
            for chunk in chunks
            for call in chunk.function_calls or ()
        ],
        "finish": [
            chunk.candidates[0].finish_reason
            for chunk in chunks
            if chunk.candidates and chunk.candidates[0].finish_reason
        ],
        "usage": usage(chunks[-1].usage_metadata),
        "exact": [chunk.model_dump(mode="json", exclude={"sdk_http_response"}) for chunk in chunks],
    }


def case_stream(at):
    with client_of(at) as client:
        return streamed(list(client.models.generate_content_stream(**asked(at, "text"))))


async def case_stream_tools_async(at):
    more = {"tools": [WEATHER], "tool_config": {"function_calling_config": {"mode": "ANY"}}}
    async with client_of(at).aio as client:
        asking = asked(at, "two-tools", **more)
        stream = await client.models.generate_content_stream(**asking)
        return streamed([chunk async for chunk in stream])


def case_parse(at):
    more = {"response_mime_type": "application/json", "response_schema": City}
    with client_of(at) as client:
        response = client.models.generate_content(**asked(at, "json", **more))
        return whole(response) | {"parsed": response.parsed.model_dump(), "parts": None}


def case_json_schema(at):
    more = {
        "response_mime_type": "application/json",
        "response_json_schema": City.model_json_schema(),
    }
    with client_of(at) as client:
        response = client.models.generate_content(**asked(at, "json", **more))
        return {"said": json.loads(response.text), "exact": whole(response)}


def told(at, scenario):
    """Call the tools that are asked for, until there is an answer."""
    seen, asking = [], asked(at, scenario, tools=[WEATHER])
    asking["contents"] = [types.Content(role="user", parts=[types.Part(text=asking["contents"])])]
    with client_of(at) as client:
        for _ in range(3):
            response = client.models.generate_content(**asking)
            seen.append(whole(response))
            if not response.function_calls:
                break
            asking["contents"].append(response.candidates[0].content)
            results = [
                types.FunctionResponse(id=call.id, name=call.name, response={"result": "3 degrees"})
                for call in response.function_calls
            ]
            asking["contents"].append(
                types.Content(
                    role="user", parts=[types.Part(function_response=each) for each in results]
                )
            )
    exact = [turn.pop("exact") for turn in seen]
    return {"turns": seen, "exact": exact}


case_tool = partial(told, scenario="tool")
case_talk_and_tool = partial(told, scenario="talk-and-tool")
case_two_tools = partial(told, scenario="two-tools")


def called_by_itself(at, scenario, *, stream):
    """Let the SDK call the tools."""
    called = []

    def weather(city: str) -> str:
        """How warm it is."""
        called.append(city)
        return "3 degrees"

    with client_of(at) as client:
        asking = asked(at, scenario, tools=[weather])
        if stream:
            chunks = client.models.generate_content_stream(**asking)
            text = "".join(chunk.text for chunk in chunks if chunk.text)
        else:
            text = client.models.generate_content(**asking).text
    return {"called": called, "text": text}


case_automatic_calls = partial(called_by_itself, scenario="two-tools", stream=False)
case_automatic_calls_streamed = partial(called_by_itself, scenario="tool", stream=True)


def case_chat(at):
    with client_of(at) as client:
        chat = client.chats.create(model=MODEL, config={"system_instruction": "Be brief."})
        first = chat.send_message(at.say("text")).text
        second = "".join(chunk.text or "" for chunk in chat.send_message_stream("And now?"))
        return {
            "said": [first, second],
            # of a streamed answer each chunk is an item, and the usage may have one of its own
            "roles": sorted({content.role for content in chat.get_history(curated=True)}),
        }


def case_refusal(at):
    with client_of(at) as client:
        return {"exact": whole(client.models.generate_content(**asked(at, "refusal")))}


def case_count_tokens(at):
    with client_of(at) as client:
        counted = client.models.count_tokens(model=MODEL, contents=at.say("text"))
        return {"counted": counted.total_tokens > 0, "exact": counted.total_tokens}


def refused(at, scenario):
    with client_of(at) as client:
        try:
            client.models.generate_content(**asked(at, scenario))
        except errors.APIError as error:
            return failure(error)


case_error_400 = partial(refused, scenario="status-400")
case_error_403 = partial(refused, scenario="status-403")
case_error_404 = partial(refused, scenario="status-404")
case_error_429 = partial(refused, scenario="status-429")
case_error_500 = partial(refused, scenario="status-500")
case_error_overloaded = partial(refused, scenario="overloaded")


async def case_error_429_stream_async(at):
    async with client_of(at).aio as client:
        try:
            stream = await client.models.generate_content_stream(**asked(at, "status-429"))
            [chunk async for chunk in stream]
        except errors.APIError as error:
            return failure(error)


def case_wrong_key(at):
    with client_of(at, api_key="sk-wrong") as client:
        try:
            client.models.generate_content(**asked(at, "text"))
        except errors.APIError as error:
            return failure(error) | {"exact": None}


def case_retried(at):
    retry = {"attempts": 3, "initial_delay": 0.01, "max_delay": 0.02}
    with client_of(at, retry_options=retry) as client:
        return whole(client.models.generate_content(**asked(at, "once-500")))


def case_timeout(at):
    with client_of(at, timeout=400) as client:
        try:
            client.models.generate_content(**asked(at, "hangs"))
        except Exception as error:  # noqa: BLE001  # the SDK lets its transport's through
            return {"class": type(error).__name__}


def case_abort(at):
    with client_of(at) as client:
        stream = client.models.generate_content_stream(**asked(at, "stalls"))
        for chunk in stream:
            said = chunk.text
            break
        stream.close()
    return {"said": said}


async def case_abort_async(at):
    async with client_of(at).aio as client:
        stream = await client.models.generate_content_stream(**asked(at, "stalls"))
        async for chunk in stream:
            await stream.aclose()
            return {"said": chunk.text}


def broken(at, scenario):
    said, finish = "", None
    with client_of(at) as client:
        try:
            for chunk in client.models.generate_content_stream(**asked(at, scenario)):
                said += chunk.text or ""
                finish = finish or chunk.candidates[0].finish_reason
        except Exception:  # noqa: BLE001  # the SDK lets its transport's errors through
            return {"said": said, "finish": finish, "failed": True}
    return {"said": said, "finish": finish, "failed": False}


case_drops = partial(broken, scenario="drops")
case_ends = partial(broken, scenario="ends")
case_errs = partial(broken, scenario="errs")


def case_models(at):
    with client_of(at) as client:
        listed = [model.name for model in client.models.list()]
        return {"models": sorted(listed)}
