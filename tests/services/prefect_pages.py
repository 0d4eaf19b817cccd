"""Prefect's own pages as operators use them: its log-in, the form of a deployment, the form of a suspended run."""

from __future__ import annotations

import re
from dataclasses import dataclass

import httpx
from playwright.sync_api import Locator, Page


@dataclass
class PrefectPages:
    """One browser tab. api: Prefect's API. login: `user:password`."""

    page: Page
    api: str
    login: str

    @property
    def base(self) -> str:
        return self.api.removesuffix("/api")

    def log_in(self) -> None:
        self.page.goto(self.base)
        self.page.locator("input[type=password]").fill(self.login)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url("**/dashboard**")

    def deployment(self, flow: str, name: str) -> str:
        user, _, password = self.login.partition(":")
        url = f"{self.api}/deployments/name/{flow}/{name}"
        reply = httpx.get(url, auth=(user, password), trust_env=False)
        return str(reply.raise_for_status().json()["id"])

    def open_form(self, flow: str, name: str) -> None:
        """The form that starts a deployment."""
        self.page.goto(f"{self.base}/deployments/deployment/{self.deployment(flow, name)}/run")
        self.page.get_by_text("Parameters", exact=True).wait_for()

    def open_run(self, flow_run: str) -> None:
        """A suspended run, with the form that it shows."""
        self.page.goto(f"{self.base}/runs/flow-run/{flow_run}")
        self.page.get_by_role("button", name="Resume").first.click()
        self.field("One-time code").wait_for()

    def field(self, label: str) -> Locator:
        """What is filled in under a label."""
        title = self.page.locator(".schema-form-property__label", has_text=re.compile(rf"^{re.escape(label)}\b"))
        return self.page.locator(".p-label", has=title).locator(".p-label__body").first

    def choose(self, label: str, option: str) -> None:
        """One of a list."""
        button = self.field(label).locator(".p-select-button__control")
        button.focus()
        self.page.keyboard.press("ArrowDown")
        self.page.get_by_role("option").filter(has_text=re.compile(rf"^\s*{re.escape(option)}\s*$")).first.click()
        self.page.keyboard.press("Escape")

    def fill(self, label: str, text: str) -> None:
        """A line of text."""
        self.field(label).locator("textarea, input").first.fill(text)

    def submit(self) -> None:
        self.page.get_by_role("button", name="Submit").click()

    def answer(self, who: str, code: str, **given: str) -> None:
        """Fill in the form of a run, decision or outcome first, and send it."""
        for label, text in given.items():
            title = label.replace("_", " ").capitalize()
            if label in ("decision", "outcome"):
                self.choose(title, text)
            else:
                self.fill(title, text)
        self.choose("Operator", who)
        self.fill("One-time code", code)
        self.submit()
        self.field("One-time code").wait_for(state="detached")
