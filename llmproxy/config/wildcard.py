"""Names with at most one `*`, which stands for any text."""


def matched(pattern: str, name: str) -> str | None:
    """Give what the pattern's `*` stands for in `name`; "" for equal texts, None for no match."""
    prefix, star, suffix = pattern.partition("*")
    if not star:
        return "" if pattern == name else None
    fits = len(name) >= len(prefix) + len(suffix)
    if fits and name.startswith(prefix) and name.endswith(suffix):
        return name[len(prefix) : len(name) - len(suffix)]
    return None


def overlap(one: str, other: str) -> bool:
    """Say whether some name matches both patterns."""
    if "*" not in one:
        return matched(other, one) is not None
    if "*" not in other:
        return matched(one, other) is not None
    prefix, _, suffix = one.partition("*")
    start, _, end = other.partition("*")
    return (prefix.startswith(start) or start.startswith(prefix)) and (
        suffix.endswith(end) or end.endswith(suffix)
    )
