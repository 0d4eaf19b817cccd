"""Databases in irflow.yaml: paths from home, no password where anybody could read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from irflow.adapters.catalog import load_settings
from irflow.core.errors import ConfigurationErrors

SHOP = "{host: db-1, user: keeper, password: 'file:keys/keeper', ca: keys/ca.pem}"


def test_paths_are_taken_from_home(tmp_path: Path) -> None:
    (tmp_path / "irflow.yaml").write_text(f"databases: {{shop: {SHOP}}}\n")
    shop = load_settings(tmp_path).databases["shop"]
    assert shop.password == f"file:{tmp_path}/keys/keeper"
    assert shop.ca == tmp_path / "keys/ca.pem"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (SHOP.replace("file:keys/keeper", "hunter2"), "not a secret reference"),
        (SHOP.replace("host: db-1, ", ""), "'databases.shop.host' is missing"),
        (SHOP.replace("}", ", tls: maybe}"), "tls"),
    ],
)
def test_a_mistake_is_told_at_its_line_without_the_password(tmp_path: Path, written: str, said: str) -> None:
    (tmp_path / "irflow.yaml").write_text(f"\ndatabases: {{shop: {written}}}\n")
    with pytest.raises(ConfigurationErrors) as told:
        load_settings(tmp_path)
    assert said in str(told.value)
    assert "irflow.yaml:2" in str(told.value)
    assert "hunter2" not in str(told.value)
