"""Custody: what every item of evidence is called, and who took it, where, when and how."""

from __future__ import annotations

import re
from datetime import datetime

from irflow.actions._remote import script_sha256
from irflow.core.action import Context
from irflow.core.model import Json, to_text


def item_name(context: Context, what: str, at: datetime, ending: str) -> str:
    """A name for the store that no other item has: host, what, moment to the microsecond."""
    host = re.sub(r"[^a-z0-9._-]", "-", context.the_host().name.lower())[:100]
    return f"{host}-{what}-{at:%Y%m%dt%H%M%S%f}.{ending}"


def custody(context: Context, args: list[str], at: datetime, script: str) -> dict[str, Json]:
    """Who, where, when and how of a custody entry (DESIGN rule 12)."""
    how = f"{script} {' '.join(args)} over SSH, script SHA-256 {script_sha256(script)}"
    return {"who": context.actor, "where": context.the_host().name, "when": to_text(at), "how": how}
