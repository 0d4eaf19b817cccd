"""Debian's Chromium, driven by Playwright: what operators see and click."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, Request, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    # No name means anything but this machine's: what a page asks of others is never sent.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip
HERE = ("127.0.0.1", "localhost")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window, gone at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def strangers(page: Page) -> list[str]:
    """What the page asks of other machines, filled as it asks; the browser sends none of it."""
    tried: list[str] = []

    def look(request: Request) -> bool:
        parts = urlsplit(request.url)
        return parts.scheme in ("http", "https") and parts.hostname not in HERE

    page.on("request", lambda request: tried.append(request.url) if look(request) else None)
    return tried
