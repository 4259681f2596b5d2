"""The README's first minutes, run as they stand."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.test_docs import README, blocks

from .conftest import Serve

ADDRESS = "http://127.0.0.1:8080"


async def output_of(*command: str) -> str:
    """Run a command to its end; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_the_sdk_example_streams_an_answer_from_the_mock(
    serve: Serve, tmp_path: Path
) -> None:
    gateway = await serve(None)
    (example,) = (block for block in blocks(README, "python") if "from openai" in block)
    file = tmp_path / "example.py"
    file.write_text(example.replace(ADDRESS, gateway.url))

    output = await output_of(sys.executable, str(file))

    assert "mock" in output


@pytest.mark.external
async def test_the_curl_line_streams_an_answer_from_the_mock(serve: Serve) -> None:
    gateway = await serve(None)
    (line,) = (block for block in blocks(README, "sh") if block.startswith("curl"))

    output = await output_of("sh", "-c", line.replace(ADDRESS, gateway.url))

    assert re.findall(r"(?m)^data: ", output)
    assert output.endswith("data: [DONE]\n\n")
