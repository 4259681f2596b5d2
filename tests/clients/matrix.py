"""The clients and their cases, as rows."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CASES = Path(__file__).parent / "cases"
CASE = re.compile(
    r"^(?:export )?(?:async )?(?:def |function |const )?case_(\w+) ?[(=]", re.MULTILINE
)

ALL = ("openai_chat", "openai_responses", "anthropic_messages", "gemini")
"""The dialects of the vendors behind the gateway."""

BEHIND: Mapping[str, tuple[str, ...]] = {
    "openai_chat": ("openai_chat", "anthropic_messages"),
    "openai_responses": ALL,
    "anthropic_messages": ("anthropic_messages",),
    "gemini": ALL,
}
"""The vendors' dialects in which each client dialect is served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program of `cases/`, and the dialect that it speaks, in which it asks the vendor itself."""

    program: str
    speaks: str
    also: tuple[str, ...] = ()
    """Further dialects behind the gateway."""

    @property
    def behind(self) -> tuple[str, ...]:
        """The dialects of the vendors that the gateway can translate for it."""
        return BEHIND[self.speaks] + self.also

    @property
    def environment(self) -> str:
        """Where the program's libraries are."""
        return ENVIRONMENTS.get(self.program, "vendors")


ENVIRONMENTS: Mapping[str, str] = {
    "with_instructor.py": "older",
    "with_langchain.py": "frameworks",
    "with_litellm.py": "frameworks",
    "with_llama_index.py": "older",
    "with_pydantic_ai.py": "frameworks",
}

CHAT, RESPONSES, MESSAGES, GEMINI = ALL

CLIENTS: Mapping[str, Client] = {
    "openai-python": Client(program="openai_chat.py", speaks=CHAT),
    "openai-node": Client(program="openai_chat.mjs", speaks=CHAT),
    "openai-python-responses": Client(program="openai_responses.py", speaks=RESPONSES),
    "openai-node-responses": Client(program="openai_responses.mjs", speaks=RESPONSES),
    "google-genai-python": Client(program="google_genai.py", speaks=GEMINI),
    "google-genai-node": Client(program="google_genai.mjs", speaks=GEMINI),
    "anthropic-python": Client(
        program="anthropic_messages.py", speaks=MESSAGES, also=(CHAT, RESPONSES, GEMINI)
    ),
    "anthropic-node": Client(
        program="anthropic_messages.mjs", speaks=MESSAGES, also=(CHAT, RESPONSES, GEMINI)
    ),
    "ai-sdk-openai": Client(program="ai_sdk.mjs", speaks=RESPONSES),
    "ai-sdk-google": Client(program="ai_sdk.mjs", speaks=GEMINI),
    "ai-sdk-openai-chat": Client(program="ai_sdk.mjs", speaks=CHAT),
    "ai-sdk-compatible": Client(program="ai_sdk.mjs", speaks=CHAT),
    "ai-sdk-anthropic": Client(program="ai_sdk.mjs", speaks=MESSAGES),
    "langchain-openai": Client(program="with_langchain.py", speaks=CHAT),
    "langchain-anthropic": Client(program="with_langchain.py", speaks=MESSAGES),
    "llama-index-openai": Client(program="with_llama_index.py", speaks=CHAT),
    "llama-index-openai-like": Client(program="with_llama_index.py", speaks=CHAT),
    "llama-index-anthropic": Client(program="with_llama_index.py", speaks=MESSAGES),
    "pydantic-ai-openai": Client(program="with_pydantic_ai.py", speaks=CHAT),
    "pydantic-ai-anthropic": Client(program="with_pydantic_ai.py", speaks=MESSAGES),
    "instructor-openai": Client(program="with_instructor.py", speaks=CHAT),
    "instructor-anthropic": Client(program="with_instructor.py", speaks=MESSAGES),
    "litellm-openai": Client(program="with_litellm.py", speaks=CHAT),
    "litellm-anthropic": Client(program="with_litellm.py", speaks=MESSAGES),
}


NOT_THERE: Mapping[str, tuple[str, ...]] = {
    "stop_sequences": (RESPONSES,),
    "embeddings": (MESSAGES,),
}
"""The dialects that have no word for what a case asks, so that the gateway refuses it."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Row:
    """A case of a client, through the gateway to a vendor that speaks `behind`."""

    client: str
    case: str
    behind: str

    @property
    def same(self) -> bool:
        """Whether client and vendor speak the same dialect."""
        return CLIENTS[self.client].speaks == self.behind

    def __str__(self) -> str:
        return f"{self.client}-{self.case}-{self.behind}"


def rows() -> Iterator[Row]:
    """Give each case of each client with each vendor."""
    for name, client in CLIENTS.items():
        cases = CASE.findall((CASES / client.program).read_text())
        for behind in client.behind:
            for case in cases:
                if behind not in NOT_THERE.get(case, ()):
                    yield Row(client=name, case=case, behind=behind)
