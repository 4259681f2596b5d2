"""LangChain, with its packages for OpenAI and for Anthropic."""

from functools import partial

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class City(BaseModel):
    """A city and how warm it is."""

    city: str
    degrees: int


@tool
def weather(city: str) -> str:
    """Say how warm it is."""
    return f"3 degrees in {city}"


def model(at, **options):
    common = {"api_key": at.key, "max_retries": 0, **options}
    match at.client:
        case "langchain-openai":
            return ChatOpenAI(model="gpt-4.1", base_url=at.v1, stream_usage=True, **common)
        case "langchain-openai-responses":
            return ChatOpenAI(model="gpt-4.1", base_url=at.v1, use_responses_api=True, **common)
        case "langchain-anthropic":
            return ChatAnthropic(
                model="claude-sonnet-4-5", base_url=at.url, max_tokens=1024, **common
            )


def asked(at, scenario):
    return [SystemMessage("Be brief."), HumanMessage(at.say(scenario))]


def whole(message):
    usage = message.usage_metadata or {}
    details = usage.get("input_token_details") or {}
    reason = message.response_metadata
    return {
        "text": message.text,
        "calls": [
            {"name": call["name"], "args": call["args"], "identified": bool(call["id"])}
            for call in message.tool_calls
        ],
        "usage": [
            usage.get("input_tokens"),
            usage.get("output_tokens"),
            details.get("cache_read") or 0,
        ],
        "finish": reason.get("finish_reason") or reason.get("stop_reason"),
        "exact": message.model_dump(mode="json", exclude={"id"}),
    }


def case_text(at):
    return whole(model(at).invoke(asked(at, "text")))


async def case_text_async(at):
    return whole(await model(at).ainvoke(asked(at, "long")))


def case_cached(at):
    return whole(model(at).invoke(asked(at, "cached")))


def case_stream(at):
    chunks = list(model(at).stream(asked(at, "text")))
    total = chunks[0]
    for chunk in chunks[1:]:
        total += chunk
    seen = whole(total)
    seen.pop("exact")
    return seen | {"deltas": [chunk.text for chunk in chunks if chunk.text]}


async def case_stream_async(at):
    return {"deltas": [chunk.text async for chunk in model(at).astream(asked(at, "text"))]}


def told(at, scenario):
    bound = model(at).bind_tools([weather])
    messages, seen = asked(at, scenario), []
    for _ in range(3):
        message = bound.invoke(messages)
        seen.append({**whole(message), "exact": None})
        if not message.tool_calls:
            break
        messages += [
            message,
            *(
                ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"])
                for call in message.tool_calls
            ),
        ]
    return {"turns": seen}


case_tool = partial(told, scenario="talk-and-tool")
case_two_tools = partial(told, scenario="two-tools")


def case_structured(at):
    return {"parsed": model(at).with_structured_output(City).invoke(at.say("json")).model_dump()}


def case_structured_by_function(at):
    shaped = model(at).with_structured_output(City, method="function_calling")
    return {"parsed": shaped.invoke(at.say("json")).model_dump()}


def refused(at, scenario):
    try:
        model(at).invoke(asked(at, scenario))
    except Exception as error:  # noqa: BLE001  # each package lets its SDK's errors through
        return {"class": type(error).__name__, "status": getattr(error, "status_code", None)}


case_error_400 = partial(refused, scenario="status-400")
case_error_429 = partial(refused, scenario="status-429")
case_error_500 = partial(refused, scenario="status-500")
case_error_overloaded = partial(refused, scenario="overloaded")


def case_abort(at):
    stream = model(at).stream(asked(at, "stalls"))
    for chunk in stream:
        if chunk.text:
            stream.close()
            return {"said": chunk.text}


def broken(at, scenario):
    said = ""
    try:
        for chunk in model(at).stream(asked(at, scenario)):
            said += chunk.text
    except Exception:  # noqa: BLE001  # as above
        return {"said": said, "failed": True}
    return {"said": said, "failed": False}


case_drops = partial(broken, scenario="drops")
case_ends = partial(broken, scenario="ends")
case_errs = partial(broken, scenario="errs")
