"""Prometheus Alertmanager's webhook, format version 4, as its `webhook_configs` sends it."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from irflow.core.alert import AlertStatus
from irflow.intake.hardened_json import read_json
from irflow.intake.kind import Kind
from irflow.intake.parcel import MOST_ALERTS, Parcel, Reading, fingerprint, labels, moment, not_understood
from irflow.intake.source import Source
from irflow.intake.text import clean, clean_all


class _Alert(BaseModel):
    """One alert of a group. Fields that later versions add are let pass: the format is not ours."""

    model_config = ConfigDict(extra="ignore", strict=True)

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    startsAt: str = ""
    fingerprint: str = ""


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    version: Literal["4"]
    groupKey: str
    truncatedAlerts: int = Field(default=0, ge=0, le=10**9)
    alerts: list[_Alert] = Field(min_length=1, max_length=MOST_ALERTS)


def read(source: Source, body: bytes) -> Parcel:
    """Read one notification: the alerts of one group. Raises NotUnderstood naming the field."""
    try:
        parsed = _Body.model_validate(read_json(body))
    except ValidationError as error:
        raise not_understood(error) from None
    return Parcel(readings=tuple(_reading(source, one) for one in parsed.alerts), left_out=parsed.truncatedAlerts)


def _reading(source: Source, one: _Alert) -> Reading:
    name = one.labels.get("alertname", "")
    title = one.annotations.get("summary") or one.annotations.get("title") or name
    type_ = _type(source, one, name)
    return Reading(
        fingerprint=fingerprint(one.fingerprint, one.labels),
        status=AlertStatus(one.status),
        type=type_,
        severity=source.severity_of(one.labels.get(source.severity_label, "")) or source.default_severity,
        title=clean(title, 500) or type_,
        summary=clean(one.annotations.get("description") or one.annotations.get("message") or "", 10_000, lines=True),
        hosts=_first(one, source.host_labels, 253),
        addresses=_all(one, source.address_labels, 100),
        accounts=_all(one, source.account_labels, 256),
        hashes=_all(one, source.hash_labels, 128),
        secrets=_all(one, source.secret_labels, 128),
        labels=labels(one.labels),
        occurred_at=_began(one.startsAt),
    )


def _type(source: Source, one: _Alert, name: str) -> str:
    """What the source's map says of the alert's name, else a label that names the type, else default, else the name."""
    if name.strip().lower() in source.type_map:
        return source.type_of(name)
    label = next((one.labels[key] for key in source.type_labels if one.labels.get(key)), "")
    words = (source.type_of(text) for text in (label, source.default_type, name))
    return next((word for word in words if word), "unclassified")


def _first(one: _Alert, names: tuple[str, ...], limit: int) -> tuple[str, ...]:
    """The value of the first label there is: `instance` is often the exporter's host, not the one in trouble."""
    return clean_all([next((one.labels[name] for name in names if one.labels.get(name)), "")], limit)


def _all(one: _Alert, names: tuple[str, ...], limit: int) -> tuple[str, ...]:
    return clean_all((one.labels.get(name, "") for name in names), limit)


def _began(text: str) -> datetime | None:
    """None for Go's zero time, and for what is no time: it orders nothing, so it is not worth losing an alert."""
    try:
        found = moment(text)
    except ValueError:
        return None
    return found if found.year > 1 else None


KIND = Kind("alertmanager", read)
