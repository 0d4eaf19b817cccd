"""The intake on PostgreSQL, which is stricter about text than SQLite."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from irflow.core.journal import verify
from tests.intake.hostile import TEXTS, alert
from tests.intake.site import Site, alert_body, site
from tests.services.postgres import running_postgres


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_postgres() as server, site(tmp_path_factory.mktemp("intake"), url=server.new_database()) as running:
        yield running


@pytest.mark.parametrize("name", TEXTS)
def test_hostile_text_is_stored(at: Site, name: str) -> None:
    body = json.dumps(alert(TEXTS[name])).encode()
    first = at.signed(body, message_id=f"m-{name}".replace(" ", "-"))
    assert first.status_code in (202, 422)
    assert at.signed(body, message_id=f"m-{name}".replace(" ", "-")).content == first.content
    assert all(verify(one.id, at.store.events(one.id), ()).intact for one in at.open())


def test_the_same_message_from_many_threads_is_one(at: Site) -> None:
    body = alert_body(hosts=["db-1"], fingerprint="once")
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: at.signed(body, message_id="once"), range(16)))
    assert {(one.status_code, one.content) for one in replies} == {(202, replies[0].content)}
