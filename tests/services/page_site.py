"""The real `irflow web` over a real journal, and a real browser in front of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from irflow.adapters.journal_sql import SqlStore
from irflow.drill.installation import free_port
from irflow.wiring import load, open_store
from irflow.wiring.page import document_store, operator_tokens
from tests.cli.conftest import run
from tests.web.scene import Scene, scene

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
ROLES = ["incident_commander", "technical_lead", "communications", "legal"]
PEOPLE: dict[str, Any] = {
    "ann": {"login": "ann", "roles": ROLES, "access": "admin"},
    "ben": {"login": "ben", "roles": ["incident_commander", "communications"]},
    "dee": {"login": "dee", "roles": ROLES, "access": "monitor"},
}
START_S, STOP_S = 30.0, 15.0


@dataclass
class PageSite:
    """An installation whose web process runs."""

    home: Path
    store: SqlStore
    url: str
    process: subprocess.Popen[bytes]

    def token(self, name: str) -> str:
        """A new one; the one before is dead."""
        return operator_tokens(load(self.home).settings).issue(name)

    def scene(self, **more: Any) -> Scene:
        """An incident that begins now."""
        return scene(self.store, datetime.now(UTC), document_store(load(self.home).settings), **more)

    def write_operators(self, **more: Any) -> None:
        """operators.yaml anew. more: further people."""
        (self.home / "operators.yaml").write_text(json.dumps({"operators": {**PEOPLE, **more}}))

    def stop(self) -> float:
        """End the process as a supervisor does. Returns after how many seconds it was gone."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_S)
        return time.monotonic() - start

    def start(self) -> None:
        """Start it (again)."""
        self.process = _start(self.home, self.url)


def _start(home: Path, url: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-m", "irflow", "--home", str(home), "web"], env=dict(os.environ))
    end = time.monotonic() + START_S
    while True:
        assert process.poll() is None, "irflow web did not start"
        assert time.monotonic() < end, "irflow web did not start in time"
        try:
            if httpx.get(f"{url}/health", trust_env=False, timeout=1).status_code == 200:
                return process
        except httpx.HTTPError:
            time.sleep(0.05)


@contextmanager
def page_site(home: Path) -> Iterator[PageSite]:
    """Install, start, stop."""
    assert run(home, "init").code == 0
    port = free_port()
    settings = home / "irflow.yaml"
    kept = [line for line in settings.read_text().splitlines() if not line.startswith("web_port")]
    settings.write_text("\n".join([*kept, f"web_port: {port}"]) + "\n")
    (home / "operators.yaml").write_text(json.dumps({"operators": PEOPLE}))
    url = f"http://127.0.0.1:{port}"
    process = _start(home, url)
    try:
        with open_store(load(home).settings) as store:
            site = PageSite(home, store, url, process)
            yield site
    finally:
        if site.process.poll() is None:
            site.stop()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A browser of one person. asked: hosts that it sent requests to. complaints: what its console said."""

    context: BrowserContext
    page: Page
    asked: set[str]
    complaints: list[str]


def visit(browser: Browser, **how: Any) -> Visit:
    """Open one. how: of the context, as color_scheme, viewport, java_script_enabled."""
    context = browser.new_context(**how)
    page = context.new_page()
    page.set_default_timeout(15_000)
    found = Visit(context, page, set(), [])
    context.on("request", lambda request: found.asked.add(str(urlsplit(request.url).hostname)))
    page.on("console", lambda message: found.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    return found


def log_in(at: PageSite, here: Visit, name: str, path: str = "/", *, token: str = "") -> None:
    """As a person does: to the page, to the login, and on to where they wanted to go."""
    here.page.goto(at.url + path)
    here.page.get_by_label("Operator token").fill(token or at.token(name))
    here.page.get_by_role("button", name="Log in").click()
    here.page.wait_for_url(at.url + path)
