"""What the pages show, to whom, over which connection, and with which headers."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient

from irflow.core.incident import SYSTEM
from irflow.core.journal import Draft, Kind
from irflow.core.questions import Ask
from tests.intake.site import Site
from tests.web.scene import FLOW_RUN, RESPONDER, Scene, scene

PARTS = ("", "/timeline", "/decisions", "/evidence", "/documents", "/documents/incident-report.md", "/leases")


def every_page(asked: Scene) -> list[str]:
    forms = [asked.form_url(ask) for ask in (Ask.APPROVAL, Ask.MANUAL, Ask.STEP)]
    return ["/", "/leases", *(asked.url + part for part in PARTS), *forms]


def test_the_start_page_puts_what_waits_for_you_first(at: Site, asked: Scene) -> None:
    page = at.visitor("ben").get("/").text
    assert page.index("Waiting for you (2)") < page.index("Open incidents") < page.index("Waiting for others")
    first = re.search(r'<article class="card next".*?</article>', page, re.DOTALL)
    assert first
    assert "Approve the containment plan" in first[0]
    assert f'href="{asked.form_url(Ask.APPROVAL)}"' in first[0]
    for text in ("critical", "3 decisions waiting", "web-1", "11 min 00 s left"):
        assert text in page


def test_without_incidents_the_start_page_is_calm(at: Site) -> None:
    page = at.visitor().get("/").text
    assert "0 open incidents" in page
    assert "Nothing waits for you" in page


def test_a_closed_incident_waits_for_nobody(at: Site, asked: Scene) -> None:
    url = asked.form_url(Ask.APPROVAL)
    asked.close()
    visitor = at.visitor()
    assert "0 open incidents" in visitor.get("/").text
    assert "closed 2026-" in visitor.get(asked.url).text
    assert visitor.get(url).status_code == 404


def test_a_question_says_all_that_one_has_to_know(at: Site, asked: Scene) -> None:
    visitor = at.visitor()
    approval = visitor.get(asked.form_url(Ask.APPROVAL)).text
    for text in (
        "Isolate, keeping the responder&#39;s own way in", "web-1", "web-2", "lease", "8 h",  # what, where, how
        "isolation in force on web-2", "Can be undone, and that is proved", "irflow undo IR-2026-0001",  # the way back
        "two people must agree", "playbook system-compromise, runbook isolate-host",  # why, who asks
        "11 min 00 s left", "0 of 2 people", "incident commander", "ben",  # until when, who
        "db-1: it is protected", "Sockets and processes, before the cut",  # the rest of the plan
        f'href="http://127.0.0.1:4200/runs/flow-run/{FLOW_RUN}"', asked.plans["containment"].digest,
    ):  # fmt: skip
        assert text in approval, text
    step = visitor.get(asked.form_url(Ask.STEP)).text
    for text in ("stop shop.service on web-1", "as seen when it was asked", "step by step", "Leave it out"):
        assert text in step, text


def test_what_cannot_be_undone_says_why(at: Site, asked: Scene) -> None:
    recovery = asked.plans["recovery"]
    asked.ask(recovery, recovery.steps[1])
    (url,) = re.findall(r'href="(/incidents/[^"]+)">Kill it', at.visitor().get("/").text)
    assert "Cannot be undone: " in at.visitor().get(url).text


def test_who_has_said_yes_and_what_was_not_taken_is_shown(at: Site, asked: Scene) -> None:
    question = asked.question(Ask.APPROVAL)
    data = {"phase": "containment", "digest": question.digest, "operator": "ben", "role": "incident_commander",
            "method": "totp", "reason": "", "form": ""}  # fmt: skip
    asked.add(Draft(Kind.APPROVAL_GIVEN, "operator:ben", data))
    data = {
        "question": question.id,
        "operator": "eve",
        "method": "totp",
        "reason": "wrong code",
        "phase": "",
        "form": "",
    }
    asked.add(Draft(Kind.ANSWER_REJECTED, "claimed:eve", data))
    page = at.visitor().get(asked.form_url(Ask.APPROVAL)).text
    assert "1 of 2 people" in page
    assert "wrong code" in page
    assert "You have said yes already" in at.visitor("ben").get(asked.form_url(Ask.APPROVAL)).text


def test_a_flow_run_that_is_none_becomes_no_link(at: Site, asked: Scene) -> None:
    id_ = asked.question(Ask.APPROVAL).id
    asked.add(Draft(Kind.FORM_SHOWN, RESPONDER, {"question": id_, "flow_run": "x/../../evil", "phase": ""}))
    assert "/runs/flow-run/" not in at.visitor().get(asked.form_url(Ask.APPROVAL)).text


def test_an_incident_shows_its_windows_with_machine_and_people_apart(at: Site, asked: Scene) -> None:
    at.clock.forward(90)
    page = at.visitor().get(asked.url).text
    for text in ("Detection", "Containment", "Recovery", "Lessons learned"):
        assert f"<h3>{text.lower()}</h3>" in page
    assert page.count("9 min 30 s left") >= 2
    assert "<dt>machine</dt><dd>0.00 s</dd>" in page
    assert "<dt>people</dt><dd>1 min 30 s</dd>" in page


def test_a_deadline_that_has_passed_is_told_in_words(at: Site, asked: Scene) -> None:
    at.clock.forward(12 * 60)
    assert "1 min 00 s late" in at.visitor().get(asked.url).text


def test_leases_are_shown_with_the_time_left(at: Site, asked: Scene) -> None:
    for path in ("/leases", f"{asked.url}/leases", asked.url):
        page = at.visitor().get(path).text
        for text in ("isolation on", "web-1", "in force", "7 h 59 min left", "gone"):
            assert text in page, (path, text)


def test_evidence_and_documents_are_listed_with_their_hashes(at: Site, asked: Scene) -> None:
    assert "5e" * 32 in at.visitor().get(f"{asked.url}/evidence").text
    assert asked.events(Kind.DOCUMENT_WRITTEN)[0]["sha256"] in at.visitor().get(f"{asked.url}/documents").text


def test_a_document_is_shown_as_text_and_whether_it_was_changed(at: Site, asked: Scene) -> None:
    url = f"{asked.url}/documents/incident-report.md"
    assert "# Incident report" in at.visitor().get(url).text
    assert "unchanged" in at.visitor().get(url).text
    path = at.state / "documents" / asked.incident.id / "incident-report.md"
    path.chmod(0o600)
    path.write_text("another <b>story</b>")
    page = at.visitor().get(url).text
    assert "This is not what was written" in page
    assert "another &lt;b&gt;story" in page


@pytest.mark.parametrize("name", [
    "..%2f..%2fweb-session.key", "%2e%2e/%2e%2e/web-session.key", "../operator-tokens.json", "x.md", "%00",
    "%2fetc%2fpasswd", "incident-report.md%00.txt",
])  # fmt: skip
def test_no_other_file_can_be_had(at: Site, asked: Scene, name: str) -> None:
    reply = at.visitor().get(f"{asked.url}/documents/{name}")
    assert reply.status_code in (303, 404)


def test_a_document_outside_its_incident_is_not_read_even_if_the_journal_names_it(at: Site, asked: Scene) -> None:
    for path in ("../web-session.key", f"{asked.incident.id}/../../web-session.key", "01/other.md"):
        asked.add(Draft(Kind.DOCUMENT_WRITTEN, RESPONDER, {"name": "x", "path": path, "sha256": "00"}))
    for name in ("web-session.key", "other.md", "x"):
        assert at.visitor().get(f"{asked.url}/documents/{name}").status_code == 404


def test_the_timeline_is_newest_first_and_has_pages(at: Site, asked: Scene) -> None:
    for n in range(150):
        asked.add(Draft(Kind.NOTE, "operator:ann", {"text": f"note number {n}.", "operator": "ann"}))
    visitor = at.visitor()
    first = visitor.get(f"{asked.url}/timeline").text
    assert first.index("note number 149.") < first.index("note number 148.")
    (older,) = re.findall(r'href="([^"]+before=\d+)"', first)
    second = visitor.get(older).text
    seen = [re.findall(r"note number (\d+)\.", page) for page in (first, second)]
    assert len(seen[0]) == 100
    assert seen[0] + seen[1] == [str(n) for n in reversed(range(150))]
    assert "incident opened" in second
    assert "before=" not in second


@pytest.mark.parametrize("before", ["0", "-1", "x", "9" * 30, "1e3", "٣"])
def test_a_page_of_the_timeline_that_is_none_shows_the_newest(at: Site, asked: Scene, before: str) -> None:
    reply = at.visitor().get(f"{asked.url}/timeline", params={"before": before})
    assert reply.status_code == 200
    assert "is asked for an approval" in reply.text


def test_a_halt_is_seen_on_every_page(at: Site, asked: Scene) -> None:
    at.store.transact(lambda tx: tx.append(SYSTEM, Draft(Kind.HALTED, "operator:ann", {"reason": "maintenance <x>"})))
    visitor = at.visitor()
    for path in every_page(asked):
        assert "All automation is halted:</strong> maintenance &lt;x&gt;" in visitor.get(path).text, path


@pytest.mark.parametrize(
    "number", ["IR-2026-0002", "x", "%00", "{{7*7}}", "<script>", "IR-2026-0001%00", "%ff", "IR-２０２６-0001"]
)
def test_an_unknown_incident_is_not_found(at: Site, asked: Scene, number: str) -> None:
    visitor = at.visitor()
    for rest in ("", "/timeline", "/questions/1"):
        reply = visitor.get(f"/incidents/{number}{rest}")
        assert reply.status_code == 404
        assert "<script>" not in reply.text


def test_pages_may_load_and_run_nothing_but_our_two_files(at: Site, asked: Scene) -> None:
    visitor = at.visitor()
    for path in [*every_page(asked), "/login", "/incidents/none"]:
        reply = visitor.get(path)
        policy = dict(one.strip().split(" ", 1) for one in reply.headers["content-security-policy"].split(";"))
        assert policy == {
            "default-src": "'none'", "style-src": "'self'", "script-src": "'self'", "connect-src": "'self'",
            "form-action": "'self'", "frame-ancestors": "'none'", "base-uri": "'none'",
        }, path  # fmt: skip
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cross-origin-opener-policy"] == "same-origin"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert reply.headers["cache-control"] == "no-store"
        assert not re.search(r"<style|\son\w+=|\sstyle=|javascript:|<img|<iframe", reply.text), path
        assert all(src.startswith("/static/") for src in re.findall(r'(?:src|href)="([^"]+\.(?:css|js))"', reply.text))
        assert len(re.findall("<script", reply.text)) == 1


def test_the_two_files_are_named_by_their_content_and_may_be_kept(at: Site) -> None:
    page = at.client.get("/login").text
    found = re.findall(r'"(/static/irflow\.[0-9a-f]{16}\.(?:css|js))"', page)
    assert len(found) == 2
    for path in found:
        reply = at.client.get(path)
        assert reply.status_code == 200
        assert "immutable" in reply.headers["cache-control"]
        assert reply.headers["content-type"].startswith(("text/css", "text/javascript"))
    assert at.client.get("/static/irflow.0000000000000000.css").status_code == 404
    assert at.client.get("/static/..%2fapp.py").status_code == 404


def test_without_javascript_pages_load_themselves_again_but_no_form_does(at: Site, asked: Scene) -> None:
    visitor = at.visitor()
    for path in every_page(asked):
        page = visitor.get(path).text
        head = page.partition("</head>")[0]
        refreshes = '<noscript><meta http-equiv="refresh"' in head
        assert refreshes == ("/questions/" not in path and "incident-report" not in path), path
        assert "http-equiv" not in page.replace('<noscript><meta http-equiv="refresh"', "")


def test_pages_go_to_other_machines_over_tls_alone(at: Site, asked: Scene) -> None:
    for path in ["/", asked.url, "/login"]:
        reply = at.far_client.get(path)
        assert reply.status_code == 403
        assert "Beacon" not in reply.text
    assert at.far_client.post("/login", data={"token": at.tokens.issue("ann")}).status_code == 403
    tls = TestClient(at.app, base_url="https://irflow.example", client=("192.0.2.7", 1))
    assert tls.post("/login", data={"token": at.tokens.issue("ann")}).url.path == "/"
    assert "Beacon" in tls.get("/").text


@pytest.mark.parametrize(("host", "status"), [
    ("127.0.0.1:8765", 200), ("localhost:8765", 200), ("[::1]:8765", 200), ("rebound.example:8765", 403),
])  # fmt: skip
def test_another_sites_name_for_this_machine_shows_nothing(at: Site, host: str, status: int) -> None:
    assert at.client.get("/login", headers={"host": host}).status_code == status


def test_a_link_from_another_site_loads_once_more_so_that_the_strict_cookie_comes_along(at: Site, asked: Scene) -> None:
    stranger = TestClient(at.app, base_url=at.client.base_url, client=("127.0.0.1", 1), follow_redirects=False)
    reply = stranger.get(asked.url, headers={"sec-fetch-site": "cross-site"})
    assert reply.status_code == 200
    assert f'content="0; url={asked.url}"' in reply.text
    assert "Beacon" not in reply.text
    reply = stranger.get("//evil.example/", headers={"sec-fetch-site": "cross-site"})
    assert "evil" not in reply.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_only_forms_can_be_sent(at: Site, asked: Scene, method: str) -> None:
    visitor = at.visitor()
    for path in ("/", asked.url, "/leases", "/health", f"{asked.url}/timeline"):
        assert visitor.request(method, path).status_code == 405


def test_two_hundred_open_incidents_are_listed_and_one_with_many_hosts_can_be_read(at: Site) -> None:
    for _ in range(20):
        scene(at.store, at.clock.now(), parts=("approval",))
    page = at.visitor().get("/").text
    assert "20 open incidents" in page
    assert "Waiting for you (20)" in page
