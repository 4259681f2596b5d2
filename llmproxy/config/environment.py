"""
The start without a file: providers from the variables that their SDKs already use.

It is written as the TOML that `llmproxy init` saves, so that both mean the same.
"""

from collections.abc import Mapping
from dataclasses import replace

from .findings import quoted
from .load import parse
from .schema import Config
from .vendors import VENDORS, Vendor

SOURCE = "the environment"
MOCK = """\
[providers.mock]
kind = "mock"

[models."*"]
targets = ["mock/*"]
"""


def from_environment(
    env: Mapping[str, str], *, overrides: Mapping[str, Mapping[str, object]] | None = None
) -> Config:
    """
    Give the configuration that the variables make; with none of them, the mock answers.

    Raises ConfigError, for instance for a key with a line break within.
    """
    text = toml(env)
    config = parse(text, env, read=_no_file, source=SOURCE, overrides=overrides)
    if text is not MOCK:
        return config
    variables = ", ".join(vendor.variable for vendor in VENDORS if vendor.variable is not None)
    warning = f"no provider's key is set ({variables}): the built-in mock answers for every model"
    return replace(config, warnings=(*config.warnings, warning))


def toml(env: Mapping[str, str]) -> str:
    """Give the same as a file; keys stay references."""
    present = [
        vendor
        for vendor in VENDORS
        if _is_set(env, vendor.variable) or _is_set(env, vendor.base_url_variable)
    ]
    tables = [_provider(vendor, env) for vendor in present]
    models = [(pattern, vendor.name) for vendor in present for pattern in vendor.models]
    names = [vendor.name for vendor in present]
    if _is_set(env, "OLLAMA_HOST"):
        names.append("ollama")
        tables.append(
            f'[providers.ollama]\nkind = "openai"\n'
            f"base_url = {quoted(ollama_url(env['OLLAMA_HOST']))}\n"
        )
    if not names:
        return MOCK
    if len(names) == 1:
        models = [("*", names[0])]
    tables += [
        f"[models.{quoted(pattern)}]\ntargets = [{quoted(f'{provider}/*')}]\n"
        for pattern, provider in models
    ]
    return "\n".join(tables)


def ollama_url(host: str) -> str:
    """
    Give the address of Ollama's OpenAI-compatible API.

    The variable is the server's too, so that it may name no scheme, no port, or all addresses
    (https://github.com/ollama/ollama/blob/main/envconfig/config.go).
    """
    scheme, separator, rest = host.strip().partition("://")
    if not separator:
        scheme, rest = "http", scheme
    address = rest.partition("/")[0]
    name, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        usual = {"http": "80", "https": "443"} if separator else {}
        name, port = address, usual.get(scheme, "11434")
    if name in ("", "0.0.0.0", "[::]"):  # noqa: S104  # an address to compare with, not to bind
        name = "127.0.0.1"
    return f"{scheme}://{name}:{port}/v1"


def _provider(vendor: Vendor, env: Mapping[str, str]) -> str:
    lines = [f"[providers.{vendor.name}]", f'kind = "{vendor.kind}"']
    base_url = vendor.base_url if vendor.name != vendor.kind else ""
    if _is_set(env, vendor.base_url_variable):
        base_url = env[vendor.base_url_variable or ""].strip()
    if base_url:
        lines.append(f"base_url = {quoted(base_url)}")
    if _is_set(env, vendor.variable):
        lines.append(f'api_key = "env:{vendor.variable}"')
    return "\n".join(lines) + "\n"


def _is_set(env: Mapping[str, str], variable: str | None) -> bool:
    """Say whether the variable has a value; an empty one is as good as none."""
    return variable is not None and bool(env.get(variable, "").strip())


def _no_file(path: str) -> str:
    raise FileNotFoundError(path)
