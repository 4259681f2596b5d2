"""LlamaIndex, with its models for OpenAI, for compatible servers and for Anthropic."""

from functools import partial

from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai import OpenAI
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class City(BaseModel):
    """A city and how warm it is."""

    city: str
    degrees: int


def model(at):
    common = {"api_key": at.key, "max_retries": 0}
    match at.client:
        case "llama-index-openai":
            return OpenAI(model="gpt-4.1", api_base=at.v1, **common)
        case "llama-index-openai-like":
            return OpenAILike(
                model="gpt-4.1",
                api_base=at.v1,
                is_chat_model=True,
                is_function_calling_model=True,
                **common,
            )
        case "llama-index-anthropic":
            return Anthropic(model="claude-sonnet-4-5", base_url=at.url, max_tokens=1024, **common)


def asked(at, scenario):
    return [
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="user", content=at.say(scenario)),
    ]


def case_text(at):
    answer = model(at).chat(asked(at, "text"))
    return {"text": answer.message.content, "role": answer.message.role}


def case_complete(at):
    return {"text": model(at).complete(at.say("text")).text}


async def case_text_async(at):
    return {"text": (await model(at).achat(asked(at, "text"))).message.content}


def case_stream(at):
    deltas = [answer.delta for answer in model(at).stream_chat(asked(at, "text")) if answer.delta]
    return {"deltas": deltas}


async def case_stream_async(at):
    stream = await model(at).astream_chat(asked(at, "text"))
    return {"deltas": [answer.delta async for answer in stream if answer.delta]}


def case_tool(at):
    called = []

    def weather(city: str) -> str:
        """Say how warm it is."""
        called.append(city)
        return "3 degrees"

    llm, tool = model(at), FunctionTool.from_defaults(weather)
    history = asked(at, "two-tools")
    answer = llm.chat_with_tools([tool], chat_history=history, allow_parallel_tool_calls=True)
    history.append(answer.message)
    for call in llm.get_tool_calls_from_response(answer):
        history.append(
            ChatMessage(
                role="tool",
                content=str(tool(**call.tool_kwargs)),
                additional_kwargs={"tool_call_id": call.tool_id},
            )
        )
    return {"called": called, "text": llm.chat(history).message.content}


def case_structured(at):
    prompt = PromptTemplate("{text}")
    return {"parsed": model(at).structured_predict(City, prompt, text=at.say("json")).model_dump()}


def refused(at, scenario):
    try:
        model(at).chat(asked(at, scenario))
    except Exception as error:  # noqa: BLE001  # each package lets its SDK's errors through
        return {"class": type(error).__name__, "status": getattr(error, "status_code", None)}


case_error_400 = partial(refused, scenario="status-400")
case_error_429 = partial(refused, scenario="status-429")
case_error_500 = partial(refused, scenario="status-500")


def broken(at, scenario):
    said = ""
    try:
        for answer in model(at).stream_chat(asked(at, scenario)):
            said += answer.delta or ""
    except Exception:  # noqa: BLE001  # as above
        return {"said": said, "failed": True}
    return {"said": said, "failed": False}


case_drops = partial(broken, scenario="drops")
case_ends = partial(broken, scenario="ends")
case_errs = partial(broken, scenario="errs")
