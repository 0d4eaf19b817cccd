"""irflow's own alert format, for senders that can shape what they send (docs/alerts.md)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from irflow.core.alert import AlertStatus
from irflow.core.model import Json
from irflow.intake.hardened_json import read_json
from irflow.intake.kind import Kind
from irflow.intake.parcel import (
    MOST_ALERTS,
    MOST_TARGETS,
    Parcel,
    Reading,
    fingerprint,
    labels,
    moment,
    not_understood,
)
from irflow.intake.refusal import NotUnderstood
from irflow.intake.source import Source
from irflow.intake.text import clean, clean_all


class _Alert(BaseModel):
    """One alert of the body. A misspelt field is refused: it could be the one that names the hosts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: str = ""
    severity: str = ""
    title: str = ""
    summary: str = ""
    hosts: list[str] = Field(default=[], max_length=MOST_TARGETS)
    addresses: list[str] = Field(default=[], max_length=MOST_TARGETS)
    accounts: list[str] = Field(default=[], max_length=MOST_TARGETS)
    hashes: list[str] = Field(default=[], max_length=MOST_TARGETS)
    secrets: list[str] = Field(default=[], max_length=MOST_TARGETS)
    labels: dict[str, str | int | float | bool] = {}
    fingerprint: str = ""
    occurred_at: str = ""
    status: Literal["firing", "resolved"] = "firing"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    alerts: list[_Alert] = Field(min_length=1, max_length=MOST_ALERTS)


def read(source: Source, body: bytes) -> Parcel:
    """Read `{"alerts": [ALERT, ...]}` or a single ALERT. Raises NotUnderstood naming the field."""
    value = read_json(body)
    if isinstance(value, dict) and "alerts" not in value:
        value = {"alerts": [value]}
    try:
        alerts = _Body.model_validate(_without_nulls(value)).alerts
    except ValidationError as error:
        raise not_understood(error) from None
    return Parcel(readings=tuple(_reading(source, one, f"alerts.{at}") for at, one in enumerate(alerts)))


def _without_nulls(value: Json) -> Json:
    """The body as if fields that are null were not there: many senders write them."""
    if not isinstance(value, dict) or not isinstance(value["alerts"], list):
        return value
    alerts = [
        {key: inner for key, inner in one.items() if inner is not None} if isinstance(one, dict) else one
        for one in value["alerts"]
    ]
    return {**value, "alerts": alerts}


def _reading(source: Source, one: _Alert, where: str) -> Reading:
    type_ = source.type_of(one.type) or source.type_of(source.default_type)
    if not type_:
        raise NotUnderstood("it names no incident type, and the source has no default_type", where=f"{where}.type")
    severity = source.severity_of(one.severity) if one.severity else source.default_severity
    if severity is None:
        raise NotUnderstood("not a severity: critical, high, medium or low", where=f"{where}.severity")
    try:
        occurred_at = moment(one.occurred_at) if one.occurred_at else None
    except ValueError:
        raise NotUnderstood(
            "not a time with a zone, as in 2026-01-31T12:00:00Z", where=f"{where}.occurred_at"
        ) from None
    hosts, addresses = clean_all(one.hosts, 253), clean_all(one.addresses, 100)
    accounts, hashes = clean_all(one.accounts, 256), clean_all(one.hashes, 128)
    secrets = clean_all(one.secrets, 128)
    parts = [sorted(hosts), sorted(addresses), sorted(accounts)]
    parts += [sorted(names) for names in (hashes, secrets) if names]
    title = clean(one.title, 500) or type_
    return Reading(
        fingerprint=fingerprint(one.fingerprint, type_, title, *parts),
        status=AlertStatus(one.status), type=type_, severity=severity, title=title,
        summary=clean(one.summary, 10_000, lines=True), hosts=hosts, addresses=addresses, accounts=accounts,
        hashes=hashes, secrets=secrets, labels=labels({key: _text(value) for key, value in one.labels.items()}),
        occurred_at=occurred_at,
    )  # fmt: skip


def _text(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


KIND = Kind("standard", read)
