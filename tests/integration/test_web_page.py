"""irflow's page in a real browser, in front of the real `irflow web` and a real journal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from irflow.core.journal import Kind
from irflow.core.questions import Ask
from irflow.web.news import MOST_LISTENERS
from tests.services.page_site import PageSite, Visit, chromium, log_in, page_site, visit
from tests.services.proxy import proxy
from tests.web.scene import Scene
from tests.web.test_pages import every_page

PHONE, NARROW = {"width": 390, "height": 844}, {"width": 320, "height": 640}
SOON_MS = 10_000


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageSite]:
    with page_site(tmp_path_factory.mktemp("page") / "home") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def seen(at: PageSite) -> Scene:
    """An incident that nobody answers in."""
    return at.scene()


def is_clean(here: Visit, *, refused: str = "no answer was refused") -> None:
    """Nothing left this machine, and the browser had nothing to complain about, the policy of contents included.

    refused: status of an answer that had to be.
    """
    assert here.asked == {"127.0.0.1"}
    assert not [one for one in here.complaints if f"status of {refused}" not in one]
    here.context.close()


def clock(page: Page) -> int:
    """Seconds left, as the first countdown of a page says."""
    text = page.locator(".clock").first.inner_text()
    found = re.fullmatch(r"(\d+) min (\d\d) s left", text)
    assert found, text
    return 60 * int(found[1]) + int(found[2])


def test_a_person_logs_in_sees_the_clock_run_hears_of_a_question_and_answers_it(at: PageSite, browser: Browser) -> None:
    asked = at.scene(parts=("records",))
    here = visit(browser, viewport=PHONE)
    page = here.page
    log_in(at, here, "ann", asked.url)
    expect(page.get_by_text("Nothing waits for people.")).to_be_visible()
    expect(page.locator("#live")).to_have_text(", live")

    before = clock(page)
    expect(page.locator(".clock").first).not_to_have_text(page.locator(".clock").first.inner_text(), timeout=SOON_MS)
    assert clock(page) < before, "it counts down by itself"

    page.evaluate("window.untouched = true")
    asked.begin("detection")
    decide = page.get_by_role("link", name="Look and decide").first
    expect(decide).to_be_visible(timeout=SOON_MS)
    assert page.evaluate("window.untouched"), "the page was not loaded again"

    decide.click()
    page.get_by_role("radio", name="It is done").check()
    page.get_by_label("reached").select_option("yes")
    page.get_by_label("back at").fill("2h")
    page.get_by_role("textbox", name="Note").fill("called at 3:10")
    page.get_by_label("Evidence").fill("ticket 7")
    page.get_by_role("button", name="Send my answer").click()
    expect(page.locator("#said")).to_contain_text("ann answered done: called at 3:10")
    (given,) = asked.events(Kind.MANUAL_ANSWERED)
    assert (given["method"], given["operator"], given["evidence"]) == ("token", "ann", "ticket 7")
    assert given["facts"]["back_at"] == 7200.0
    is_clean(here)


def test_behind_the_proxy_that_operations_shows_all_of_it_works_over_tls(
    at: PageSite, browser: Browser, tmp_path: Path
) -> None:
    asked = at.scene(parts=("records",))
    with proxy(tmp_path / "nginx", web=at.url.removeprefix("http://")) as port:
        here = visit(browser, ignore_https_errors=True)
        log_in(replace(at, url=f"https://127.0.0.1:{port}"), here, "ann", asked.url)
        expect(here.page.locator("#live")).to_have_text(", live")
        (cookie,) = here.context.cookies()
        assert (cookie["secure"], cookie["httpOnly"]) == (True, True)
        asked.begin("detection")
        decide = here.page.get_by_role("link", name="Look and decide").first
        expect(decide).to_be_visible(timeout=SOON_MS)
        decide.click()
        here.page.get_by_role("radio", name="Not needed").check()
        here.page.get_by_role("textbox", name="Note").fill("a test")
        here.page.get_by_role("button", name="Send my answer").click()
        expect(here.page.locator("#said")).to_contain_text("ann answered skipped: a test")
        is_clean(here)


def test_the_start_page_hears_of_a_new_incident(at: PageSite, browser: Browser) -> None:
    here = visit(browser)
    log_in(at, here, "ann")
    asked = at.scene(parts=("approval",))
    expect(here.page.get_by_text(asked.number).first).to_be_visible(timeout=SOON_MS)
    expect(here.page.locator("#news")).to_contain_text("for you", timeout=SOON_MS)
    is_clean(here)


def test_without_javascript_all_of_it_works_too(at: PageSite, browser: Browser) -> None:
    asked = at.scene(parts=("records", "manual"))
    here = visit(browser, java_script_enabled=False, viewport=PHONE)
    page = here.page
    log_in(at, here, "ann", asked.url)
    assert page.locator('meta[http-equiv="refresh"]').get_attribute("content") == "15"
    assert 0 < clock(page) <= 11 * 60
    page.get_by_role("link", name="Look and decide").first.click()
    assert page.locator('meta[http-equiv="refresh"]').count() == 0, "a form is never taken away"
    page.get_by_role("radio", name="It is done").check()
    page.get_by_role("textbox", name="Note").fill("called")
    page.get_by_role("button", name="Send my answer").click()
    expect(page.get_by_role("alert")).to_contain_text("reached is missing")
    expect(page.get_by_role("textbox", name="Note")).to_have_value("called")
    page.get_by_label("reached").select_option("no")
    page.get_by_role("button", name="Send my answer").click()
    expect(page.locator("#said")).to_contain_text("ann answered done: called")
    assert asked.events(Kind.MANUAL_ANSWERED)[0]["facts"]["reached"] is False
    is_clean(here, refused="422")


def test_a_form_that_is_being_filled_in_stays_and_says_that_it_is_out_of_date(at: PageSite, browser: Browser) -> None:
    asked = at.scene(parts=("approval",))
    one, other = visit(browser), visit(browser)
    url = asked.form_url(Ask.APPROVAL)
    log_in(at, one, "ann", url)
    log_in(at, other, "ben", url)
    one.page.get_by_role("textbox", name="Note").fill("half a sentence")
    expect(one.page.locator("#live")).to_have_text(", live")
    other.page.get_by_role("radio", name="Yes, do this").check()
    other.page.get_by_role("button", name="Send my answer").click()
    expect(other.page.locator("#said")).to_be_visible()
    expect(one.page.locator("#moved")).to_be_visible(timeout=SOON_MS)
    expect(one.page.get_by_role("textbox", name="Note")).to_have_value("half a sentence")
    is_clean(one)
    is_clean(other)


def test_what_the_reader_has_opened_stays_open_when_news_come(at: PageSite, browser: Browser) -> None:
    asked = at.scene(parts=("records", "approval"))
    here = visit(browser)
    log_in(at, here, "ann", asked.url)
    expect(here.page.locator("#live")).to_have_text(", live")
    steps = here.page.locator("summary", has_text="0 of 4 steps done")
    steps.focus()
    steps.press("Enter")
    asked.note("news from the journal")
    expect(here.page.get_by_text("news from the journal")).to_be_visible(timeout=SOON_MS)
    assert steps.locator("..").get_attribute("open") is not None
    assert steps.evaluate("one => one === document.activeElement"), "the keyboard is where it was"
    is_clean(here)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_nobody_is_kept_out_by_how_a_page_is_made(at: PageSite, browser: Browser, seen: Scene, scheme: str) -> None:
    here = visit(browser, color_scheme=scheme, viewport=PHONE)
    found: list[str] = []

    def look(path: str) -> None:
        for one in Axe().run(here.page).response["violations"]:
            places = "; ".join(str(node["html"])[:150] for node in one["nodes"][:3])
            found.append(f"{path}: {one['impact']}: {one['id']}: {one['help']}: {places}")

    here.page.goto(f"{at.url}/login")
    look("/login")
    here.page.get_by_label("Operator token").fill("wrong")
    here.page.get_by_role("button", name="Log in").click()
    look("/login, refused")
    log_in(at, here, "ann")
    for path in [*every_page(seen), "/incidents/none"]:
        here.page.goto(at.url + path)
        here.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        look(path)
    here.page.goto(at.url + seen.form_url(Ask.STEP))
    here.page.evaluate("document.querySelectorAll('[name=choice]').forEach((one) => { one.value = 'nothing' })")
    here.page.get_by_role("radio", name=re.compile("^Go on")).check()
    here.page.get_by_role("button", name="Send my answer").click()
    expect(here.page.get_by_role("alert")).to_be_visible()
    look("a refused answer")
    assert not found, "\n".join(found)
    here.context.close()


@pytest.mark.parametrize("who", ["ann", "dee"])
def test_at_320_pixels_nothing_runs_off_sideways(at: PageSite, browser: Browser, who: str) -> None:
    asked = at.scene(text="https://evil.example/" + "a" * 300)
    here = visit(browser, viewport=NARROW)
    log_in(at, here, who)
    for path in every_page(asked):
        here.page.goto(at.url + path)
        wide = here.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= NARROW["width"], f"{path} is {wide} wide"
    is_clean(here)


def test_everything_can_be_reached_and_done_with_the_keyboard(at: PageSite, browser: Browser) -> None:
    asked = at.scene(parts=("step",))
    here = visit(browser)
    page = here.page
    log_in(at, here, "ann", asked.form_url(Ask.STEP))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip", "past the head in one go"
    page.get_by_role("radio", name=re.compile("^Go on")).focus()
    page.keyboard.press("Space")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "one sees where one is"
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_be_visible()
    assert asked.events(Kind.STEP_DECIDED)[0]["decision"] == "proceed"
    is_clean(here)


def test_whoever_is_locked_out_hears_and_sees_no_more(at: PageSite, browser: Browser) -> None:
    asked = at.scene(parts=("approval",))
    here = visit(browser)
    log_in(at, here, "ben", asked.url)
    expect(here.page.locator("#live")).to_have_text(", live")
    at.token("ben")  # a new one: the old one is dead
    asked.note("not for everybody")
    expect(here.page.get_by_label("Operator token")).to_be_visible(timeout=SOON_MS)
    here.context.close()


def test_an_operator_who_is_removed_is_out_without_a_restart(at: PageSite, browser: Browser) -> None:
    at.write_operators(eve={"login": "eve", "roles": ["legal"]})
    here = visit(browser)
    log_in(at, here, "eve")
    at.write_operators()
    here.page.reload()
    expect(here.page.get_by_label("Operator token")).to_be_visible()
    here.context.close()


def test_behind_a_tls_proxy_the_page_goes_to_other_machines_and_without_tls_it_does_not(at: PageSite) -> None:
    sent = {"host": "irflow.example.com", "x-forwarded-for": "192.0.2.9", "origin": "https://irflow.example.com"}
    with httpx.Client(base_url=at.url, trust_env=False) as client:
        plain = client.post("/login", data={"token": at.token("dee")}, headers=sent)
        tls = client.post("/login", data={"token": at.token("dee")}, headers={**sent, "x-forwarded-proto": "https"})
    assert plain.status_code == 403
    assert tls.status_code == 303
    assert tls.headers["set-cookie"].startswith("__Host-irflow-page=")
    assert "; Secure" in tls.headers["set-cookie"]


def test_only_so_many_listen_at_once_and_the_others_are_told(at: PageSite) -> None:
    with httpx.Client(base_url=at.url, trust_env=False, timeout=20, limits=httpx.Limits(max_connections=200)) as client:
        client.post("/login", data={"token": at.token("dee")})
        wait = {"accept": "text/event-stream"}
        streams, lines, statuses = [], [], []
        for _ in range(MOST_LISTENERS + 1):
            stream = client.stream("GET", "/events", headers=wait)
            reply = stream.__enter__()
            streams.append(stream)
            statuses.append(reply.status_code)
            if reply.status_code == 200:
                lines.append(reply.iter_lines())
                assert next(lines[-1])  # it is being told
        for stream in streams:
            stream.__exit__(None, None, None)
    listening = statuses.count(200)
    assert statuses == [200] * listening + [503] * (len(statuses) - listening)
    assert MOST_LISTENERS - 5 < listening <= MOST_LISTENERS, "a page that was just closed may still count"


def test_a_process_that_is_told_to_end_ends_though_pages_are_open_and_sessions_go_on(
    at: PageSite, browser: Browser
) -> None:
    asked = at.scene(parts=("approval",))
    here = visit(browser)
    log_in(at, here, "ann", asked.url)
    expect(here.page.locator("#live")).to_have_text(", live")
    assert at.stop() < 8
    at.start()
    expect(here.page.locator("#live")).to_have_text(", live", timeout=20_000)
    here.page.reload()
    expect(here.page.get_by_role("link", name="Look and decide").first).to_be_visible()
    here.context.close()
