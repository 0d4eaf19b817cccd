"""One site per test, and an incident in it that waits for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.intake.site import Site, site
from tests.web.scene import Scene, scene


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as running:
        yield running


@pytest.fixture
def asked(at: Site) -> Scene:
    return scene(at.store, at.clock.now(), at.documents)
