"""K=V on the command line."""

from __future__ import annotations


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """What an option that is repeated says, by name. Raises UsageError naming the first that is no K=V."""
    from irflow.core.errors import UsageError

    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{option} {text}: write K=V")
        found[name] = value
    return found
