"""Status pages: for people at this machine, text escaped, nothing that runs."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys

import pytest

from irflow.core.errors import JournalError
from irflow.core.incident import SYSTEM
from irflow.core.journal import Draft, Kind
from tests.intake.site import Site


def test_the_start_page_lists_incidents(at: Site) -> None:
    assert "No incidents" in at.client.get("/").text
    at.alert(title="beacon & <b>more</b>")
    page = at.client.get("/").text
    assert '<a href="/incidents/IR-2026-0001">IR-2026-0001</a>' in page
    assert "beacon &amp; &lt;b&gt;more&lt;/b&gt;" in page
    assert "web-1" in page


def test_an_incident_has_a_page(at: Site) -> None:
    at.alert(hosts=["web-1", "nosuch"])
    (incident,) = at.open()
    page = at.client.get("/incidents/IR-2026-0001").text
    for text in ("system-compromise", "verified", "nosuch", "alert.received", "phase.containment", "irflow:web"):
        assert text in page
    assert at.client.get(f"/incidents/{incident.id}").text == page


@pytest.mark.parametrize("number", ["IR-2026-0002", "x", "%00", "{{7*7}}", "<script>", "IR-2026-0001%00", "%ff"])
def test_an_unknown_incident_is_not_found(at: Site, number: str) -> None:
    at.alert()
    reply = at.client.get(f"/incidents/{number}")
    assert reply.status_code == 404
    assert "<script" not in reply.text


def test_pages_may_load_and_run_nothing(at: Site) -> None:
    at.alert()
    for path in ("/", "/incidents/IR-2026-0001", "/incidents/none"):
        reply = at.client.get(path)
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        (style,) = re.findall(r"<style>(.*?)</style>", reply.text)
        assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy, (
            "the style is let in by hash"
        )
        assert not re.search(r"<script|<link|<img|<form|\son\w+=|\sstyle=", reply.text)
        assert reply.headers["x-content-type-options"] == "nosniff"


def test_pages_are_for_this_machine_alone(at: Site) -> None:
    at.alert()
    for path in ("/", "/incidents/IR-2026-0001"):
        reply = at.far_client.get(path)
        assert reply.status_code == 403
        assert "beacon" not in reply.text
    assert at.far_client.get("/health").status_code == 200


@pytest.mark.parametrize(("host", "status"), [
    ("127.0.0.1:8765", 200), ("localhost:8765", 200), ("[::1]:8765", 200), ("rebound.example:8765", 403),
])  # fmt: skip
def test_another_sites_name_for_this_machine_shows_nothing(at: Site, host: str, status: int) -> None:
    assert at.client.get("/", headers={"host": host}).status_code == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_pages_can_only_be_read(at: Site, method: str) -> None:
    for path in ("/", "/incidents/IR-2026-0001", "/health"):
        assert at.client.request(method, path).status_code == 405


def test_a_halt_is_seen_on_every_page(at: Site) -> None:
    at.alert()
    at.store.transact(lambda tx: tx.append(SYSTEM, Draft(Kind.HALTED, "operator:ann", {"reason": "maintenance <x>"})))
    for path in ("/", "/incidents/IR-2026-0001"):
        assert "halted: maintenance &lt;x&gt;" in at.client.get(path).text
    assert at.client.get("/health").json() == {"status": "ok", "halted": True}


def test_health_says_when_the_journal_does_not_answer(at: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert at.client.get("/health").json() == {"status": "ok", "halted": False}

    def broken() -> None:
        raise JournalError("the disk is gone")

    monkeypatch.setattr(at.store, "halted", broken)
    reply = at.client.get("/health")
    assert reply.status_code == 503
    assert "disk" not in reply.text
    assert at.client.get("/").status_code == 503


def test_no_description_of_the_interface_is_served(at: Site) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert at.client.get(path).status_code == 404


def test_the_web_process_is_light() -> None:
    heavy = "{'prefect', 'paramiko', 'sqlalchemy', 'jinja2', 'typer', 'apprise', 'alembic'}"
    code = f"import sys, irflow.web.app; print(*sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert loaded.stdout.split() == []
