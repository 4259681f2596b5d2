"""
TOML to the configuration's dataclasses, without I/O.

One loader, driven by the dataclasses' types, walks the file and notes every problem with its
place. What is wrong is stood in for, so that the rest is looked at too; what must fit together
across tables is then judged by `check.py`.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from ..core.errors import ConfigError
from ..core.exchange import Target
from ..core.secret import Secret
from .check import check, has_auth_header
from .findings import Findings, at, quoted, suggestion
from .schema import Config, ProviderConfig
from .values import (
    READERS,
    Refused,
    check_bounds,
    kind_of,
    written_duration,
    written_size,
)
from .vendors import vendor_of

ReadFile: TypeAlias = Callable[[str], str]
Option: TypeAlias = Field[Any]

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
ABSENT = object()
SHELL = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
NOTHING: Mapping[str, Any] = MappingProxyType({})


def parse(
    text: str,
    env: Mapping[str, str],
    *,
    read: ReadFile,
    source: str,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    secrets: bool = True,
) -> Config:
    """
    Give the configuration that `text` describes; `source` says where it came from.

    `env` has the variables that `"env:NAME"` refers to; `read` gives a file's text for
    `"file:/path"` and raises OSError or UnicodeError. `overrides` are single options that win over
    the file's, by table. Without `secrets` nothing that they refer to is looked up, and the
    configuration is good to look at only. Raises ConfigError with every problem at once.
    """
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of 5,000 digits, deep nesting
        raise ConfigError([f"this is not TOML: {error}"]) from error
    for table, options in (overrides or {}).items():
        if options and isinstance(raw.setdefault(table, {}), dict):
            raw[table].update(options)
    findings = Findings()
    loader = _Loader(env, read, findings, secrets=secrets)
    config = loader.config(raw)
    check(config, findings, read)
    if findings.problems:
        raise ConfigError(findings.problems)
    return replace(
        config,
        source=source,
        secret_files=tuple(loader.files),
        warnings=tuple(findings.warnings),
    )


def looked_up(reference: Secret, place: str, env: Mapping[str, str], read: ReadFile) -> Secret:
    """
    Give what a secret refers to, of a configuration that was read without its secrets.

    Raises ConfigError.
    """
    findings = Findings()
    secret = _Loader(env, read, findings, secrets=True).secret(reference.reveal(), place)
    if secret is None:
        raise ConfigError(findings.problems)
    return secret


def options_of(table: Any) -> dict[str, tuple[Option, Any]]:
    """Give a table's options by name, each with its type; a field without docs is none."""
    hints = get_type_hints(table, include_extras=True)
    return {
        option.name: (option, hints[option.name])
        for option in fields(table)
        if "doc" in option.metadata
    }


def without_none(hint: Any) -> tuple[Any, bool]:
    """Give the type proper, and whether `none` may stand in its place."""
    if get_origin(hint) not in (Union, UnionType):
        return hint, False
    (proper,) = (one for one in get_args(hint) if one is not NoneType)
    return proper, True


def overridden_by(hint: Any) -> Any | None:
    """Give the table whose single options may stand there; None where the type says otherwise."""
    if get_origin(hint) is Annotated and is_dataclass(table := get_args(hint)[1]):
        return table
    return None


class _Loader:
    """Makes what a type asks of what TOML gives, and notes what does not fit."""

    def __init__(
        self, env: Mapping[str, str], read: ReadFile, findings: Findings, *, secrets: bool
    ) -> None:
        self._env = env
        self._secrets = secrets
        self._read = read
        self._findings = findings
        self.files: dict[str, None] = {}  # of secrets, in their order

    def config(self, raw: dict[str, Any]) -> Config:
        """Give the whole; providers come last, since they build on tables that they override."""
        raw = dict(raw)
        providers = raw.pop("providers", {})
        config: Config = self._table(Config, raw, "", {})
        shared = {
            name: _inherited(getattr(config, name)) for name in ("retry", "breaker", "timeouts")
        }
        hint = Mapping[str, ProviderConfig]
        loaded = self._value(hint, providers, "providers", inherited=shared)
        if loaded is ABSENT:
            return config
        for name, provider in loaded.items():
            if not {"api_key", "api_keys"} & providers[name].keys():
                loaded[name] = self._with_usual_key(name, provider)
        return replace(config, providers=loaded)

    def secret(self, raw: str, place: str) -> Secret | None:
        """Give a single secret; None where it is not to be had, which is then noted."""
        value = self._value(Secret, raw, place)
        return None if value is ABSENT else value

    def _with_usual_key(self, name: str, provider: ProviderConfig) -> ProviderConfig:
        """Give the provider the key from its vendor's variable, if that is set, or not looked up."""
        vendor = vendor_of(provider.kind, provider.base_url)
        if vendor is None or vendor.variable is None or has_auth_header(provider):
            return provider
        if self._secrets and vendor.variable not in self._env:
            return provider
        place = at(at("providers", name), "api_key")
        key = self._value(Secret, f"env:{vendor.variable}", place)
        return provider if key is ABSENT else replace(provider, api_key=key)

    def _value(
        self,
        hint: Any,
        raw: object,
        place: str,
        option: Option | None = None,
        inherited: Mapping[str, Any] = NOTHING,
    ) -> Any:
        """Give the value; ABSENT where it is wrong, which is then noted."""
        proper, optional = without_none(hint)
        if optional and raw == "none":
            return None
        try:
            if proper is Secret:
                return self._secret(raw, place, option)
            if is_dataclass(proper) and proper is not Target:
                return self._table(proper, raw, place, inherited)
            if get_origin(proper) in (tuple, Mapping) or overridden_by(proper):
                return self._several(proper, raw, place, inherited, option)
            return _scalar(proper, raw, option)
        except Refused as refused:
            self._findings.problem(place, str(refused))
            return ABSENT

    def _table(self, table: Any, raw: object, place: str, inherited: Mapping[str, Any]) -> Any:
        """Give the table; an absent option is inherited, or has its default."""
        if not isinstance(raw, dict):
            raise Refused(f"a table is expected, not {kind_of(raw)}")
        options = options_of(table)
        self._refuse_unknown(raw, options, place)
        values = dict(inherited)
        for name, (option, hint) in options.items():
            value = ABSENT
            if name in raw:
                base = _fields_of(inherited.get(name))
                value = self._value(hint, raw[name], at(place, name), option, base)
            elif is_required(option):
                self._findings.problem(at(place, name), "missing")
            if value is not ABSENT:
                values[name] = value
            elif is_required(option):
                values[name] = _stand_in(hint)
        return table(**values)

    def _overrides(self, table: Any, raw: object, place: str) -> dict[str, Any]:
        """Give what stands there of the table's options, by name; nothing fills the rest."""
        if not isinstance(raw, dict):
            raise Refused(f"a table is expected, not {kind_of(raw)}")
        options = options_of(table)
        self._refuse_unknown(raw, options, place)
        values = {
            name: self._value(hint, raw[name], at(place, name), option)
            for name, (option, hint) in options.items()
            if name in raw
        }
        return {name: value for name, value in values.items() if value is not ABSENT}

    def _refuse_unknown(
        self, raw: dict[str, Any], options: Mapping[str, tuple[Option, Any]], place: str
    ) -> None:
        for key, value in raw.items():
            if key not in options:
                known = f" (there are: {', '.join(options)})"
                hint = suggestion(key, options, otherwise=known)
                parent, _, name = place.rpartition(".")
                if parent == "models" and isinstance(value, dict):  # an unquoted dot parts keys
                    hint = f': write [models."{name}.{key}"], with quotes around the name'
                self._findings.problem(at(place, key), f"unknown key{hint}")

    def _several(
        self,
        hint: Any,
        raw: object,
        place: str,
        inherited: Mapping[str, Any],
        option: Option | None,
    ) -> tuple[Any, ...] | dict[str, Any]:
        """Give what is right of an array, or of a table whose keys are for the user to choose."""
        if (table := overridden_by(hint)) is not None:
            return self._overrides(table, raw, place)
        if get_origin(hint) is tuple:
            (entry, _) = get_args(hint)
            if not isinstance(raw, list):
                double = is_dataclass(entry) and isinstance(raw, dict)
                advice = f": write [[{place}]]" if double else ""
                raise Refused(f"an array is expected, not {kind_of(raw)}{advice}")
            places = [at(place, index) for index in range(len(raw))]
            values = [
                self._value(entry, one, where, option)
                for one, where in zip(raw, places, strict=True)
            ]
            return tuple(value for value in values if value is not ABSENT)
        (_, entry) = get_args(hint)
        if not isinstance(raw, dict):
            raise Refused(f"a table is expected, not {kind_of(raw)}")
        named = {
            key: self._value(entry, one, at(place, key), inherited=inherited)
            for key, one in raw.items()
        }
        return {key: value for key, value in named.items() if value is not ABSENT}

    def _secret(self, raw: object, place: str, option: Option | None) -> Secret:
        """Give what is referred to, or the text itself; what it holds is in no message."""
        if not isinstance(raw, str):
            raise Refused(f"a text is expected, not {kind_of(raw)}")
        scheme, _, rest = raw.partition(":")
        if scheme in {"env", "file"} and not self._secrets:
            return Secret(raw)
        if (name := SHELL.fullmatch(raw)) is not None:
            raise Refused(f'nothing is expanded here: write "env:{name[1]}"')
        if scheme == "env":
            value, origin = self._variable(rest), f"the variable {rest}"
        elif scheme == "file":
            value, origin = self._file(rest), f"the file {rest}"
        else:
            value, origin = raw, "the text"
            if option is not None:
                advice = '"env:NAME" or "file:/path" keeps it out of the file'
                self._findings.warning(place, f"the key stands here in plain text; {advice}")
        value = value.strip()  # a file, or `echo`, ends with a newline
        if not value:
            raise Refused(f"{origin} is empty")
        if not value.isprintable():
            raise Refused(f"{origin} holds control characters")
        return Secret(value)

    def _variable(self, name: str) -> str:
        if not VARIABLE.fullmatch(name):
            raise Refused('"env:" is followed by the name of a variable')
        if name not in self._env:
            raise Refused(f"the variable {name} is not set")
        return self._env[name]

    def _file(self, path: str) -> str:
        if not path.startswith("/"):
            raise Refused('"file:" is followed by an absolute path')
        self.files[path] = None
        try:
            return self._read(path)
        except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path with a null
            reason = error.strerror if isinstance(error, OSError) else "it holds no text"
            raise Refused(f"the file {path} cannot be read: {reason}") from error


def is_required(option: Option) -> bool:
    """Say whether an option has to be given."""
    return option.default is MISSING and option.default_factory is MISSING


def _scalar(hint: Any, raw: object, option: Option | None) -> Any:
    """Give a single value of the type, within the option's bounds."""
    if get_origin(hint) is Literal:
        return _one_of(get_args(hint), raw)
    kind = get_args(hint)[1] if get_origin(hint) is Annotated else hint
    value = READERS[kind](raw)
    if option is not None and isinstance(value, int | float) and not isinstance(value, bool):
        written = {"duration": written_duration, "size": written_size}.get(kind, "{:g}".format)
        check_bounds(value, option.metadata["least"], option.metadata["most"], written)
    return value


def _one_of(words: tuple[str, ...], raw: object) -> str:
    if raw in words:
        return str(raw)
    shown = quoted(raw) if isinstance(raw, str) else kind_of(raw)
    hint = suggestion(str(raw), words)
    raise Refused(f"{shown} is none of {', '.join(words)}{hint}")


def _stand_in(hint: Any) -> Any:
    """Give something of a required option's type, so that the rest can be looked at."""
    if get_origin(hint) is Literal:
        return get_args(hint)[0]
    return () if get_origin(hint) is tuple else ""


def _inherited(table: Any) -> Any:
    """Give a global table as the providers inherit it."""
    own = {
        name: option.default
        for name, (option, _) in options_of(type(table)).items()
        if not option.metadata["inherited"]
    }
    return replace(table, **own)


def _fields_of(base: Any) -> Mapping[str, Any]:
    if not is_dataclass(base):
        return NOTHING
    return {one.name: getattr(base, one.name) for one in fields(base)}
