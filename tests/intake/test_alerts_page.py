"""What docs/alerts.md says is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ruamel.yaml import YAML

from irflow.intake import standard
from irflow.intake.source import PER_MINUTE, Auth, Source
from tests.intake.site import Site

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()


def block(language: str, holding: str) -> str:
    found = [one for one in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if holding in one]
    return str(found[0])


def test_the_example_alert_is_understood_in_full() -> None:
    text = block("json", "fingerprint")
    source = Source.model_validate({"name": "x", "auth": "none"})
    (reading,) = standard.read(source, text.encode()).readings
    assert set(json.loads(text)) <= set(reading.model_dump())
    assert reading.hosts == ("web-1",)


def test_the_example_sources_are_valid() -> None:
    sources = YAML(typ="safe", pure=True).load(block("yaml", "detection:"))["sources"]
    assert {Source.model_validate({"name": name, **one}).kind for name, one in sources.items()} == {
        "standard", "alertmanager"
    }  # fmt: skip


def test_every_setting_of_a_source_is_described() -> None:
    settings = {"key" if name == "keys" else name for name in Source.model_fields} - {"name"}
    described = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in PAGE.splitlines() if "|" in line)))
    assert settings <= described


def test_the_limits_are_as_described() -> None:
    assert f"{PER_MINUTE[Auth.HMAC]}; {PER_MINUTE[Auth.NONE]} for" in PAGE


def test_an_answer_has_the_described_fields(at: Site) -> None:
    (row,) = at.alert().json()["alerts"]
    assert all(f'"{name}"' in PAGE for name in row)
