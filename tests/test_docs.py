"""What the documents name exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_every_test_that_operations_names_as_a_proof_is_there() -> None:
    section = (ROOT / "docs" / "operations.md").read_text().partition("## What proves it")[2]
    named = re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", section)
    assert len(named) > 5
    for file, test in named:
        text = (ROOT / "tests" / "integration" / file).read_text()
        assert not test or f"def {test}(" in text, f"{file}::{test}"
