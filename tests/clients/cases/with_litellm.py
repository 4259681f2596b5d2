"""The LiteLLM SDK as a client, for an OpenAI-compatible server and for Anthropic."""

import json
from functools import partial

import litellm

litellm.suppress_debug_info = True
litellm.telemetry = False

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How warm it is.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def asked(at, scenario, **more):
    match at.client:
        case "litellm-openai":
            where = {"model": "openai/gpt-4.1", "api_base": at.v1}
        case "litellm-anthropic":
            where = {"model": "anthropic/claude-sonnet-4-5", "api_base": at.url}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": at.say(scenario)},
    ]
    return {**where, "api_key": at.key, "messages": messages, "num_retries": 0, **more}


def whole(answer):
    choice = answer.choices[0]
    details = answer.usage.prompt_tokens_details
    return {
        "text": choice.message.content,
        "finish": choice.finish_reason,
        "calls": [
            {"name": call.function.name, "arguments": json.loads(call.function.arguments)}
            for call in choice.message.tool_calls or ()
        ],
        "usage": [
            answer.usage.prompt_tokens,
            answer.usage.completion_tokens,
            (details.cached_tokens if details else 0) or 0,
        ],
    }


def case_text(at):
    return whole(litellm.completion(**asked(at, "text")))


async def case_text_async(at):
    return whole(await litellm.acompletion(**asked(at, "long", max_tokens=7)))


def case_cached(at):
    return whole(litellm.completion(**asked(at, "cached")))


def case_stream(at):
    more = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(litellm.completion(**asked(at, "text", **more)))
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    return {
        "deltas": [choice.delta.content for choice in choices if choice.delta.content],
        "finish": [choice.finish_reason for choice in choices if choice.finish_reason],
    }


def told(at, scenario):
    asking, seen = asked(at, scenario, tools=[WEATHER]), []
    for _ in range(3):
        answer = litellm.completion(**asking)
        seen.append(whole(answer))
        message = answer.choices[0].message
        if not message.tool_calls:
            break
        asking["messages"].append(message)
        asking["messages"] += [
            {"role": "tool", "tool_call_id": call.id, "content": "3 degrees"}
            for call in message.tool_calls
        ]
    return {"turns": seen}


case_tool = partial(told, scenario="talk-and-tool")
case_two_tools = partial(told, scenario="two-tools")


def refused(at, scenario):
    try:
        litellm.completion(**asked(at, scenario))
    except Exception as error:  # noqa: BLE001  # its own classes, one for each status
        return {"class": type(error).__name__, "status": getattr(error, "status_code", None)}


case_error_400 = partial(refused, scenario="status-400")
case_error_429 = partial(refused, scenario="status-429")
case_error_500 = partial(refused, scenario="status-500")


def broken(at, scenario):
    said = ""
    try:
        for chunk in litellm.completion(**asked(at, scenario, stream=True)):
            said += chunk.choices[0].delta.content or ""
    except Exception:  # noqa: BLE001  # as above
        return {"said": said, "failed": True}
    return {"said": said, "failed": False}


case_drops = partial(broken, scenario="drops")
case_errs = partial(broken, scenario="errs")
