"""instructor, on the SDKs of OpenAI and Anthropic."""

import anthropic
import instructor
import openai
from pydantic import BaseModel


class City(BaseModel):
    """A city and how warm it is."""

    city: str
    degrees: int


def client(at, **options):
    match at.client:
        case "instructor-openai":
            sdk = openai.OpenAI(base_url=at.v1, api_key=at.key, max_retries=0)
            return instructor.from_openai(sdk, model="gpt-4.1", **options)
        case "instructor-anthropic":
            sdk = anthropic.Anthropic(base_url=at.url, api_key=at.key, max_retries=0)
            return instructor.from_anthropic(
                sdk, model="claude-sonnet-4-5", max_tokens=1024, **options
            )


def asked(at, scenario):
    return {"messages": [{"role": "user", "content": at.say(scenario)}], "response_model": City}


def case_create(at):
    return {"made": client(at).chat.completions.create(**asked(at, "json")).model_dump()}


def case_with_completion(at):
    made, completion = client(at).chat.completions.create_with_completion(**asked(at, "json"))
    usage = completion.usage
    tokens = getattr(usage, "prompt_tokens", None) or getattr(usage, "input_tokens", None)
    return {"made": made.model_dump(), "in": tokens}


def case_partial(at):
    parts = list(client(at).chat.completions.create_partial(**asked(at, "json")))
    return {"last": parts[-1].model_dump(), "exact": [part.model_dump() for part in parts]}


def case_error_400(at):
    try:
        client(at).chat.completions.create(**asked(at, "status-400"), max_retries=1)
    except Exception as error:  # noqa: BLE001  # its own class around the SDK's
        return {"class": type(error).__name__}
