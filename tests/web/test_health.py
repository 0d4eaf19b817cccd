"""`/health`, and what the process is without pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

from irflow.core.errors import JournalError
from irflow.core.incident import SYSTEM
from irflow.core.journal import Draft, Kind
from tests.intake.site import Site


def test_health_needs_no_login_from_anywhere(at: Site) -> None:
    assert at.client.get("/health").json() == {"status": "ok", "halted": False}
    assert at.far_client.get("/health").status_code == 200


def test_health_tells_of_a_halt(at: Site) -> None:
    at.store.transact(lambda tx: tx.append(SYSTEM, Draft(Kind.HALTED, "operator:ann", {"reason": "maintenance"})))
    assert at.client.get("/health").json() == {"status": "ok", "halted": True}


def test_health_and_pages_say_when_the_journal_does_not_answer(at: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = at.visitor()

    def broken() -> None:
        raise JournalError("the disk is gone")

    monkeypatch.setattr(at.store, "halted", broken)
    for reply in (at.client.get("/health"), visitor.get("/")):
        assert reply.status_code == 503
        assert "disk" not in reply.text


def test_no_description_of_the_interface_is_served(at: Site) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert at.client.get(path).status_code == 404


def test_the_web_process_is_light_and_has_no_way_to_hosts_or_vault() -> None:
    heavy = "{'prefect', 'paramiko', 'sqlalchemy', 'typer', 'apprise', 'alembic', 'hvac', 'keyring', 'jinja2'}"
    code = f"import sys, irflow.web.app; print(*sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert loaded.stdout.split() == []


def test_what_the_page_is_built_from_needs_no_ssh_and_no_vault_either() -> None:
    heavy = "{'prefect', 'paramiko', 'hvac', 'keyring', 'redis'}"
    code = f"import sys, irflow.web.process; print(*sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert loaded.stdout.split() == []
