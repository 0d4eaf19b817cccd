"""The drill's alert: signed and sent to the real web process, as a detection tool would."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

import httpx
from standardwebhooks import Webhook

from irflow.core.errors import CheckFailed
from irflow.core.model import Json
from irflow.drill.installation import SOURCE, Installation
from irflow.drill.scenario import Alarm


def send(web_url: str, installation: Installation, hosts: Sequence[str], *, title: str) -> Json:
    """POST one signed critical alert about compromised hosts. Returns the reply's JSON. Raises CheckFailed."""
    return sound(web_url, installation, Alarm("system_compromise", title, tuple(hosts)))


def sound(web_url: str, installation: Installation, alarm: Alarm) -> Json:
    """POST one signed alert (Standard Webhooks 1.0). Returns the reply's JSON. Raises CheckFailed."""
    body = json.dumps(
        {
            "type": alarm.type,
            "severity": alarm.severity,
            "title": alarm.title,
            "hosts": list(alarm.hosts),
            "addresses": list(alarm.addresses),
            "accounts": list(alarm.accounts),
            "secrets": list(alarm.secrets),
            "fingerprint": secrets.token_hex(8),
        }
    )
    message_id, now = f"drill_{secrets.token_hex(12)}", datetime.now(UTC)
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(installation.webhook_key).sign(message_id, now, body),
        "content-type": "application/json",
    }
    reply = httpx.post(
        f"{web_url}/webhooks/{SOURCE}", content=body.encode(), headers=headers, timeout=10, trust_env=False
    )
    if reply.status_code != 202:
        raise CheckFailed(f"the alert was answered with {reply.status_code}: {reply.text[:200]}", where=web_url)
    return reply.json()
