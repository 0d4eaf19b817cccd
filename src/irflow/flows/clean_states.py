"""Messages of Prefect's states, which it also sends as events: what an exception said is redacted before it is one."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State

from irflow.core.revealed import redact

_init = State.__init__


def redact_states() -> None:
    """From now on, for this process and those forked from it. Prefect makes every state by this constructor."""
    State.__init__ = _init_clean  # type: ignore[method-assign,assignment]


def _init_clean(self: State[Any], /, **named: Any) -> None:
    if isinstance(message := named.get("message"), str):
        named["message"] = redact(message)
    _init(self, **named)
