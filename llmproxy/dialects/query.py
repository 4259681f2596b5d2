"""A query string, parameter by parameter: what is not asked for here stays as it was sent."""

from urllib.parse import quote, unquote_plus


def values(query: str, name: str) -> list[str]:
    """Give the decoded values of a parameter, one for each time that it is there."""
    return [unquote_plus(_parts(one)[1]) for one in query.split("&") if _parts(one)[0] == name]


def replaced(query: str, name: str, value: str) -> str:
    """Give the query with `value` for that of a parameter, wherever it is there."""
    said = f"{name}={quote(value, safe='')}"
    return "&".join(said if _parts(one)[0] == name else one for one in query.split("&"))


def without(query: str, name: str) -> str:
    """Give the query without a parameter."""
    return "&".join(one for one in query.split("&") if _parts(one)[0] != name)


def _parts(parameter: str) -> tuple[str, str]:
    """Give a parameter's name, decoded, and its value, as it stands."""
    name, _, value = parameter.partition("=")
    return unquote_plus(name), value
