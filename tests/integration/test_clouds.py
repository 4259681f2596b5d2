"""The configurations of docs/clouds.md, each at a scripted provider in the clouds' place."""

import re
from pathlib import Path

import pytest

from llmproxy.testing.answers import anthropic_plain, openai_plain
from llmproxy.testing.provider import Provider, answer

from .conftest import Start

PAPER = (Path(__file__).parents[2] / "docs" / "clouds.md").read_text()
BLOCKS = re.findall(r"(?ms)^```toml\n(.*?)^```", PAPER)
BEARER = ("authorization", "Bearer sk-cloud-key")
OWN = ("x-api-key", "sk-cloud-key")
MESSAGES = "/anthropic/v1/messages"
FOUNDRY = (MESSAGES, OWN, "my-claude-deployment")
BEDROCK = (MESSAGES, OWN, "anthropic.claude-haiku-4-5")
ASKED = [
    [("/openai/v1/chat/completions", BEARER, "my-gpt-4.1-deployment")],
    [FOUNDRY],
    [("/v1/chat/completions", BEARER, "openai.gpt-oss-120b")],
    [BEDROCK],
    [
        (
            "/v1/projects/my-project/locations/us-central1/endpoints/openapi/chat/completions",
            BEARER,
            "google/gemini-2.5-flash",
        )
    ],
    [FOUNDRY, BEDROCK],
]


@pytest.mark.parametrize(("block", "asked"), [*zip(BLOCKS, ASKED, strict=True)])
async def test_a_cloud_is_asked_where_it_listens_with_its_key_for_its_model(
    start: Start,
    first: Provider,
    tmp_path: Path,
    block: str,
    asked: list[tuple[str, tuple[str, str], str]],
) -> None:
    token = tmp_path / "token"
    token.write_text("sk-cloud-key\n")
    text = re.sub(r"https://[^/\"]+", first.url, block)
    text = text.replace("file:/run/llmproxy/vertex-token", f"file:{token}")
    gateway = await start(re.sub(r"env:\w+", "env:CLOUD_KEY", text))
    (name,) = re.findall(r"\[models\.\"?(.+?)\"?\]", block)
    speaks_messages = asked[-1][0] == MESSAGES
    first.then(
        *[answer({}, status=401)] * (len(asked) - 1),
        anthropic_plain() if speaks_messages else openai_plain(),
    )

    answered = await gateway.chat(name)

    assert answered.status == 200
    assert [
        (request.target, (header, request.header(header)), request.json["model"])
        for request, (_, (header, _), _) in zip(first.requests, asked, strict=True)
    ] == asked
