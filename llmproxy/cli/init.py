"""`llmproxy init`."""

import argparse
import os
from pathlib import Path

from ..config.environment import from_environment, toml
from .configuration import USUAL
from .verb import GOOD, Verb, fail

HEADER = """\
# llmproxy: who answers for which model. `llmproxy check` judges this file and shows its routes,
# `llmproxy serve` starts the gateway with it. All options: docs/configuration.md.
# Keys are references: "env:NAME" is a variable's value, "file:/path" a file's.

"""


def _options(parser: argparse.ArgumentParser) -> None:
    """Add nothing: there is one place to write to, and it is never written over."""


def _run(options: argparse.Namespace) -> int:
    config = from_environment(os.environ)  # what is written has to be good
    try:
        with Path(USUAL).open("x", encoding="utf-8") as file:
            file.write(HEADER + toml(os.environ))
    except FileExistsError:
        return fail("init", f"{USUAL} exists and is left as it is")
    except OSError as error:
        return fail("init", f"{USUAL} cannot be written: {error.strerror}")
    print(f"wrote {USUAL} with {', '.join(config.providers)}; start with: llmproxy serve")
    return GOOD


VERB = Verb(
    manual="""\
Looks for OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, GROQ_API_KEY, MISTRAL_API_KEY,
DEEPSEEK_API_KEY, OPENROUTER_API_KEY, XAI_API_KEY and OLLAMA_HOST, and writes what `serve` does
without a file, as a file to change. Keys are written as references to their variables, never
themselves. With none of them the file has the built-in mock. LLMPROXY_OPENAI_BASE_URL,
LLMPROXY_ANTHROPIC_BASE_URL and LLMPROXY_GEMINI_BASE_URL give other addresses. A file that exists
is never touched.""",
    epilog="""\
examples:
  llmproxy init && llmproxy check

exit status:
  0  the file is written
  1  it exists, or cannot be written
  2  wrong usage, or a variable holds no usable value""",
    options=_options,
    run=_run,
)
