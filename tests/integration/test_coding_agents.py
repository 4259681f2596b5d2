"""What Claude Code 2.1 and Codex 0.171 send, shortened: every byte and every header arrives."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from llmproxy.testing.answers import anthropic_events, anthropic_plain, event
from llmproxy.testing.provider import Provider, Request, stream
from tests.support.gateway import model, provider
from tests.support.wire import ask

from .conftest import Start

CLAUDE_CODE: Mapping[str, str] = {
    "accept": "application/json",
    "anthropic-beta": (
        "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
        "per-turn-control-2026-07-01,mid-conversation-tool-changes-2026-07-01,"
        "thinking-token-count-2026-05-13,advanced-tool-use-2025-11-20,effort-2025-11-24"
    ),
    "anthropic-dangerous-direct-browser-access": "true",
    "anthropic-version": "2023-06-01",
    "user-agent": "claude-cli/2.1.332 (external, sdk-cli)",
    "x-app": "cli",
    "x-claude-code-session-id": "1b148c1e-0dd3-46c2-9078-a64ef70ff0ae",
    "x-stainless-arch": "x64",
    "x-stainless-lang": "js",
    "x-stainless-os": "Linux",
    "x-stainless-package-version": "0.128.0",
    "x-stainless-retry-count": "0",
    "x-stainless-runtime": "node",
    "x-stainless-runtime-version": "v26.12.1",
    "x-stainless-timeout": "600",
}
MESSAGES: Mapping[str, Any] = {
    "model": "claude-opus-5-5",
    "messages": [
        {
            "role": "user",
            "content": [{"type": "text", "text": "<system-reminder>a</system-reminder>"}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "", "signature": "c2ln"},
                {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "tool_use_id": "toolu_1",
                    "type": "tool_result",
                    "content": "a\nb",
                    "is_error": False,
                    "cache_control": {"type": "ephemeral"},
                }
            ],
        },
    ],
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.332.0b8;"},
        {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
    ],
    "tools": [
        {"name": "Bash", "description": "Runs", "input_schema": {"type": "object"}},
        {
            "name": "Later",
            "description": "Loaded when it is asked for",
            "input_schema": {"type": "object"},
            "defer_loading": True,
        },
    ],
    "metadata": {"user_id": '{"device_id":"d","account_uuid":"","session_id":"s"}'},
    "max_tokens": 128000,
    "thinking": {"type": "adaptive", "display": "omitted"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "medium"},
    "stream": True,
}
CODEX: Mapping[str, str] = {
    "accept": "text/event-stream",
    "originator": "codex_exec",
    "session-id": "01a22504-6ece-7612-8e7e-ffec0be23886",
    "thread-id": "01a22504-6ece-7612-8e7e-ffec0be23886",
    "user-agent": "codex_exec/0.171.0 (Debian 12.0.0; x86_64) unknown (codex_exec; 0.171.0)",
    "x-client-request-id": "01a22504-6ece-7612-8e7e-ffec0be23886",
    "x-codex-beta-features": "remote_compaction_v2",
    "x-codex-turn-metadata": '{"turn_id":"t","request_kind":"turn","sandbox":"none"}',
    "x-codex-window-id": "01a22504-6ece-7612-8e7e-ffec0be23886:0",
}
RESPONSES: Mapping[str, Any] = {
    "model": "gpt-5.5",
    "stream": True,
    "input": [
        {
            "type": "message",
            "id": "msg_1",
            "role": "developer",
            "content": [{"type": "input_text", "text": "You are an agent."}],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": None,
            "encrypted_content": "e",
        },
        {
            "type": "function_call",
            "status": "completed",
            "id": "fc_1",
            "name": "exec_command",
            "arguments": '{"cmd": "ls"}',
            "call_id": "call_1",
        },
        {"type": "function_call_output", "id": "fco_1", "call_id": "call_1", "output": "a\nb\n"},
    ],
    "tools": [
        {
            "type": "function",
            "name": "exec_command",
            "description": "Runs",
            "strict": False,
            "parameters": {"type": "object"},
        },
        {
            "type": "custom",
            "name": "apply_patch",
            "description": "Edits",
            "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "a"'},
        },
        {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}},
        {"type": "web_search", "external_web_access": True},
        {"type": "namespace", "name": "mcp", "tools": []},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium"},
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "01a22504-6ece-7612-8e7e-ffec0be23886",
    "text": {"verbosity": "low"},
    "client_metadata": {"turn_id": "t", "x-codex-turn-metadata": "{}"},
}


def responses_events() -> list[bytes]:
    kinds = ("response.created", "response.output_text.delta", "response.completed")
    return [event({"type": kind, "delta": "a", "response": {}}, kind) for kind in kinds]


def assert_all_arrived(request: Request, headers: Mapping[str, str], raw: bytes) -> None:
    assert request.body == raw
    assert {name: request.header(name) for name in headers} == headers


@pytest.mark.parametrize("asks_for_a_stream", [True, False])
async def test_what_claude_code_sends_arrives(
    start: Start, first: Provider, asks_for_a_stream: bool
) -> None:
    first.then(stream(*anthropic_events("Hello")) if asks_for_a_stream else anthropic_plain())
    names = provider("first", first.url, kind="anthropic") + model("claude-*", "first/*")
    gateway = await start(names)
    raw = json.dumps({**MESSAGES, "stream": asks_for_a_stream}).encode()

    headers = {**CLAUDE_CODE, "x-api-key": "sk-mine"}
    answered = await ask(gateway.port, "/v1/messages?beta=true", raw, headers)

    assert answered.status == 200
    assert first.requests[0].target == "/v1/messages?beta=true"
    assert_all_arrived(first.requests[0], CLAUDE_CODE, raw)


async def test_what_codex_sends_arrives(start: Start, first: Provider) -> None:
    first.then(stream(*responses_events()))
    gateway = await start(provider("first", first.url) + model("gpt-*", "first/*"))
    raw = json.dumps(RESPONSES).encode()

    headers = {**CODEX, "authorization": "Bearer sk-mine"}
    answered = await ask(gateway.port, "/v1/responses", raw, headers)

    assert answered.status == 200
    assert answered.body == b"".join(responses_events())
    assert_all_arrived(first.requests[0], CODEX, raw)
