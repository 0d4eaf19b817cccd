"""What the documents name exists."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from irflow.adapters.catalog.yaml_file import read_yaml
from irflow.adapters.engines import kinds as engines
from irflow.adapters.targets import kinds
from irflow.config import KeyringSettings, VaultSettings
from irflow.core.secret_inventory import ManagedSecret

ROOT = Path(__file__).resolve().parents[1]


def test_every_test_that_operations_names_as_a_proof_is_there() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().partition("## What proves it")[2]
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", section)
    assert len(named) > 5
    for file, test in named:
        text = (ROOT / "tests" / "integration" / file).read_text()
        assert not test or f"def {test}(" in text, f"{file}::{test}"


def _examples() -> list[str]:
    """The YAML of secrets/README.md: indented blocks that begin with a key of ours."""
    text = (ROOT / "secrets" / "README.md").read_text()
    blocks = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    return [textwrap.dedent(one) for one in blocks if re.match(r"    (vault|keyring|secrets|target):\n", one)]


def test_there_is_an_example_of_each_kind_of_setting_about_secrets() -> None:
    assert {one.partition(":")[0] for one in _examples()} == {"vault", "keyring", "secrets", "target"}


@pytest.mark.parametrize("text", _examples(), ids=lambda text: text.partition(":")[0])
def test_every_example_about_secrets_is_valid(text: str, tmp_path: Path) -> None:
    (tmp_path / "example.yaml").write_text(text)
    data: dict[str, Any] = read_yaml(tmp_path / "example.yaml").data
    ((key, value),) = data.items()
    if key in ("vault", "keyring"):
        assert {"vault": VaultSettings, "keyring": KeyringSettings}[key](**value)
        return
    made = [ManagedSecret(name=name, **one) for name, one in value.items()] if key == "secrets" else []
    for target in [one.target for one in made] or [value]:
        {**kinds(), **engines()}[target["kind"]](**{name: one for name, one in target.items() if name != "kind"})
