"""pydantic-ai, with its models for OpenAI, Anthropic and Google."""

from functools import partial

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider


class City(BaseModel):
    """A city and how warm it is."""

    city: str
    degrees: int


def model(at):
    match at.client:
        case "pydantic-ai-openai":
            provider = OpenAIProvider(base_url=at.v1, api_key=at.key)
            return OpenAIChatModel("gpt-4.1", provider=provider)
        case "pydantic-ai-openai-responses":
            provider = OpenAIProvider(base_url=at.v1, api_key=at.key)
            return OpenAIResponsesModel("gpt-4.1", provider=provider)
        case "pydantic-ai-anthropic":
            provider = AnthropicProvider(base_url=at.url, api_key=at.key)
            return AnthropicModel("claude-sonnet-4-5", provider=provider)
        case "pydantic-ai-google":
            provider = GoogleProvider(base_url=at.url, api_key=at.key)
            return GoogleModel("gemini-2.5-flash", provider=provider)


def agent(at, **options):
    return Agent(model(at), instructions="Be brief.", **options)


def usage(result):
    given = result.usage() if callable(result.usage) else result.usage
    return [given.input_tokens, given.output_tokens, given.cache_read_tokens]


def whole(result):
    response = result.response
    return {
        "output": result.output,
        "usage": usage(result),
        "finish": response.finish_reason,
        "parts": [part.part_kind for part in response.parts],
        "exact": response.provider_details,
    }


async def case_text(at):
    return whole(await agent(at).run(at.say("text")))


async def case_long(at):
    return whole(await agent(at).run(at.say("long"), model_settings={"max_tokens": 7}))


async def case_cached(at):
    return whole(await agent(at).run(at.say("cached")))


async def case_stream(at):
    async with agent(at).run_stream(at.say("text")) as result:
        deltas = [text async for text in result.stream_text(delta=True, debounce_by=None)]
        return {"deltas": deltas, "usage": usage(result)}


async def told(at, scenario):
    called = []
    asking = agent(at)

    @asking.tool_plain
    def weather(city: str) -> str:
        """Say how warm it is."""
        called.append(city)
        return "3 degrees"

    result = await asking.run(at.say(scenario))
    return {**whole(result), "called": sorted(called)}


async def case_tool(at):
    return await told(at, "talk-and-tool")


async def case_two_tools(at):
    return await told(at, "two-tools")


async def case_structured(at):
    result = await agent(at, output_type=City).run(at.say("json"))
    return {"output": result.output.model_dump()}


async def case_structured_stream(at):
    async with agent(at, output_type=City).run_stream(at.say("json")) as result:
        return {"output": (await result.get_output()).model_dump()}


def refused(at, scenario):
    try:
        agent(at).run_sync(at.say(scenario))
    except Exception as error:  # noqa: BLE001  # its own class, with the status
        return {"class": type(error).__name__, "status": getattr(error, "status_code", None)}


case_error_400 = partial(refused, scenario="status-400")


async def broken(at, scenario):
    said = ""
    try:
        async with agent(at).run_stream(at.say(scenario)) as result:
            async for text in result.stream_text(delta=True, debounce_by=None):
                said += text
    except Exception:  # noqa: BLE001  # the SDK's errors come through
        return {"said": said, "failed": True}
    return {"said": said, "failed": False}


async def case_drops(at):
    return await broken(at, "drops")


async def case_errs(at):
    return await broken(at, "errs")
