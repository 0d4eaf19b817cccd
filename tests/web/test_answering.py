"""Answers from the page: what is written down, what is refused, and that nothing typed is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from irflow.core.journal import Draft, Kind
from irflow.core.questions import Ask
from irflow.core.status import State
from irflow.web.answering import ANSWERS_PER_MINUTE
from tests.intake.site import Site
from tests.web.forms import fields, send
from tests.web.scene import RESPONDER, Scene

DONE: dict[str, Any] = {"choice": "done", "note": "called at 3:10", "evidence": "ticket 7", "field__reached": "yes"}


def test_a_yes_goes_on_record_with_its_method_and_wakes_the_responder(at: Site, asked: Scene) -> None:
    digest, before = asked.question(Ask.APPROVAL).digest, len(at.wakes)
    reply = send(at.visitor("ben"), asked.form_url(Ask.APPROVAL), choice="proceed", note="it is real")
    assert reply.status_code == 303
    (given,) = asked.events(Kind.APPROVAL_GIVEN)
    assert given == {
        "phase": "containment", "digest": digest, "operator": "ben", "role": "incident_commander", "method": "token",
        "reason": "it is real", "form": given["form"],
    }  # fmt: skip
    assert len(at.wakes) == before + 1
    page = at.visitor("ben").get(reply.headers["location"]).text
    assert "Written down:</strong> ben as incident_commander (token) approved" in page


def test_two_people_make_a_plan_that_needs_two(at: Site, asked: Scene) -> None:
    url = asked.form_url(Ask.APPROVAL)
    for name in ("ben", "ann"):
        assert send(at.visitor(name), url, choice="proceed").status_code == 303
    assert not [one for one in asked.status().waiting() if one.key.startswith("containment/")]


def test_a_no_goes_on_record(at: Site, asked: Scene) -> None:
    assert send(at.visitor(), asked.form_url(Ask.APPROVAL), choice="abort", note="the wrong host").status_code == 303
    assert asked.events(Kind.APPROVAL_REFUSED)[0]["reason"] == "the wrong host"


def test_the_fields_of_a_manual_step_are_typed(at: Site, asked: Scene) -> None:
    reply = send(
        at.visitor("cy"), asked.form_url(Ask.MANUAL), **DONE, field__back_at="2h", field__users="12",
        field__seen_from="203.0.113.9\n198.51.100.0/24, 2001:db8::1", field__parts=["mail", "shop"],
    )  # fmt: skip
    assert reply.status_code == 303
    (given,) = asked.events(Kind.MANUAL_ANSWERED)
    assert given["facts"] == {
        "reached": True, "back_at": 7200.0, "channel": "phone", "users": 12, "parts": ["mail", "shop"],
        "seen_from": ["203.0.113.9/32", "198.51.100.0/24", "2001:db8::1/128"],
    }  # fmt: skip
    assert (given["note"], given["evidence"], given["method"]) == ("called at 3:10", "ticket 7", "token")


@pytest.mark.parametrize("choice", ["proceed", "skip", "abort"])
def test_a_step_is_decided(at: Site, asked: Scene, choice: str) -> None:
    assert send(at.visitor(), asked.form_url(Ask.STEP), choice=choice).status_code == 303
    (given,) = asked.events(Kind.STEP_DECIDED)
    assert (given["decision"], given["operator"], given["method"]) == (choice, "ann", "token")


@pytest.mark.parametrize(("filled", "says"), [
    ({**DONE, "field__reached": ""}, "reached is missing"),
    ({**DONE, "field__users": "many"}, "users"),
    ({**DONE, "field__back_at": "soon"}, "not a duration"),
    ({**DONE, "field__seen_from": "here"}, "seen_from"),
    ({**DONE, "field__channel": "pigeon"}, "one of phone, chat"),
    ({**DONE, "choice": "proceed"}, "is no answer here"),
    ({**DONE, "choice": ""}, "no answer was chosen"),
    ({**DONE, "choice": "<b>"}, "no answer was chosen"),
    ({**DONE, "evidence": "x" * 10_001}, "longer than 10000"),
])  # fmt: skip
def test_what_cannot_be_said_comes_back_with_all_that_was_typed(
    at: Site, asked: Scene, filled: dict[str, Any], says: str
) -> None:
    url = asked.form_url(Ask.MANUAL)
    reply = send(at.visitor(), url, **filled)
    assert reply.status_code == 422
    assert says in reply.text
    kept = fields(reply.text, url)
    for name, value in filled.items():
        if name != "choice" and not (name == "field__channel" and value == "pigeon"):
            assert kept[name.replace("__", ".")] == ([value] if value else [""] if name != "field__reached" else []), (
                name
            )
    assert not asked.events(Kind.MANUAL_ANSWERED)
    (refused,) = asked.events(Kind.ANSWER_REJECTED)
    assert refused["operator"] == "ann"
    assert refused["method"] == "token"
    assert says in refused["reason"]


def test_after_a_mistake_the_same_form_can_be_sent_again(at: Site, asked: Scene) -> None:
    visitor, url = at.visitor(), asked.form_url(Ask.MANUAL)
    reply = send(visitor, url, **{**DONE, "field__users": "many"})
    again = {**fields(reply.text, url), "field.users": "3"}
    assert visitor.post(url, data=again).status_code == 303
    assert asked.events(Kind.MANUAL_ANSWERED)[0]["facts"]["users"] == 3


def test_a_plan_that_changed_since_it_was_seen_is_not_agreed_to(at: Site, asked: Scene) -> None:
    visitor, url = at.visitor(), asked.form_url(Ask.APPROVAL)
    form = {**fields(visitor.get(url).text, url), "choice": "proceed", "note": "typed", "digest": "0" * 64}
    reply = visitor.post(url, data=form)
    assert reply.status_code == 409
    assert "the plan has changed since you saw it" in reply.text
    assert fields(reply.text, url)["note"] == ["typed"]
    assert fields(reply.text, url)["digest"] == [asked.question(Ask.APPROVAL).digest], "what is shown now"
    assert not asked.events(Kind.APPROVAL_GIVEN)
    assert len(asked.events(Kind.ANSWER_REJECTED)) == 1


def test_an_answer_to_a_new_plan_under_the_old_form_is_refused(at: Site, asked: Scene) -> None:
    visitor, url = at.visitor(), asked.form_url(Ask.APPROVAL)
    form = {**fields(visitor.get(url).text, url), "choice": "proceed", "note": "typed"}
    new = asked.plans["containment"].model_copy(update={"revision": 2})
    data = {"phase": "containment", "digest": new.digest, "plan": new.model_dump(mode="json")}
    asked.add(Draft(Kind.PHASE_PLANNED, RESPONDER, data))
    reply = visitor.post(url, data=form)
    assert reply.status_code == 409
    assert "typed" in reply.text
    assert not asked.events(Kind.APPROVAL_GIVEN)


def test_a_form_that_is_sent_twice_is_one_answer(at: Site, asked: Scene) -> None:
    visitor, url = at.visitor(), asked.form_url(Ask.APPROVAL)
    form = {**fields(visitor.get(url).text, url), "choice": "proceed"}
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: visitor.post(url, data=form), range(4)))
    assert {one.status_code for one in replies} == {303}
    assert len(asked.events(Kind.APPROVAL_GIVEN)) == 1
    assert not asked.events(Kind.ANSWER_REJECTED)


def test_whoever_comes_second_is_told_and_it_is_on_record(at: Site, asked: Scene) -> None:
    first, second, url = at.visitor("ann"), at.visitor("ben"), asked.form_url(Ask.MANUAL)
    late = {**fields(second.get(url).text, url), "choice": "failed", "note": "nobody there"}
    assert send(first, url, **DONE).status_code == 303
    reply = second.post(url, data=late)
    assert reply.status_code == 409
    assert "does not wait for an answer any more" in reply.text
    assert "nobody there" in reply.text
    assert len(asked.events(Kind.MANUAL_ANSWERED)) == 1
    assert asked.events(Kind.ANSWER_REJECTED)[0]["operator"] == "ben"


def test_one_person_is_not_two(at: Site, asked: Scene) -> None:
    visitor, url = at.visitor(), asked.form_url(Ask.APPROVAL)
    form = {**fields(visitor.get(url).text, url), "choice": "proceed"}
    assert visitor.post(url, data=form).status_code == 303
    assert visitor.post(url, data={**form, "once": "another-form-of-hers"}).status_code == 409
    assert len(asked.events(Kind.APPROVAL_GIVEN)) == 1


def test_a_closed_incident_takes_no_answer(at: Site, asked: Scene) -> None:
    visitor, url = at.visitor(), asked.form_url(Ask.APPROVAL)
    form = {**fields(visitor.get(url).text, url), "choice": "proceed"}
    asked.close()
    reply = visitor.post(url, data=form)
    assert reply.status_code == 409
    assert "is closed" in reply.text


def test_a_monitor_sees_everything_and_says_nothing(at: Site, asked: Scene) -> None:
    visitor = at.visitor("dee")
    for ask in (Ask.APPROVAL, Ask.MANUAL, Ask.STEP):
        url = asked.form_url(ask)
        page = visitor.get(url)
        assert page.status_code == 200
        assert "You may look only" in page.text
        assert f'action="{url}"' not in page.text
        form = {"form_token": fields(page.text, "/logout")["form_token"], "choice": "proceed"}
        assert visitor.post(url, data={**form, "digest": asked.question(ask).digest}).status_code == 403
    assert not asked.events(Kind.ANSWER_REJECTED), "it writes nothing at all"
    assert all(one.state is State.AWAITING for one in asked.status().waiting())


def test_an_agent_answers_for_a_step_of_a_role_and_approves_nothing(at: Site, asked: Scene) -> None:
    visitor, url = at.visitor("cy"), asked.form_url(Ask.APPROVAL)
    page = visitor.get(url).text
    assert f'action="{url}"' not in page
    form = {
        "form_token": fields(page, "/logout")["form_token"],
        "choice": "proceed",
        "digest": asked.question(Ask.APPROVAL).digest,
    }
    assert visitor.post(url, data=form).status_code == 403
    assert send(visitor, asked.form_url(Ask.MANUAL), **DONE).status_code == 303


def test_another_role_s_question_has_no_form_and_takes_no_answer(at: Site, asked: Scene) -> None:
    visitor, url = at.visitor("ben"), asked.form_url(Ask.STEP)
    page = visitor.get(url).text
    assert "you hold none of these roles" in page
    form = {
        "form_token": fields(page, "/logout")["form_token"],
        "choice": "proceed",
        "digest": asked.question(Ask.STEP).digest,
    }
    reply = visitor.post(url, data=form)
    assert reply.status_code == 409
    assert "holds none of the roles technical_lead" in reply.text
    assert not asked.events(Kind.STEP_DECIDED)


# ---------------------------------------------------------------- forms of others


def filled(visitor: TestClient, url: str) -> dict[str, Any]:
    return {**fields(visitor.get(url).text, url), "choice": "proceed"}


@pytest.mark.parametrize("token", ["", "0" * 64, "ann", "é"])
def test_a_form_without_the_session_s_own_token_is_not_taken(at: Site, asked: Scene, token: str) -> None:
    visitor, url = at.visitor(), asked.form_url(Ask.APPROVAL)
    assert visitor.post(url, data={**filled(visitor, url), "form_token": token}).status_code == 403
    without = {key: one for key, one in filled(visitor, url).items() if key != "form_token"}
    assert visitor.post(url, data=without).status_code == 403
    assert not asked.events(Kind.APPROVAL_GIVEN)


def test_a_form_token_of_another_session_is_not_taken(at: Site, asked: Scene) -> None:
    token = at.tokens.issue("ann")
    one, other, url = at.visitor(token=token), at.visitor(token=token), asked.form_url(Ask.APPROVAL)
    assert one.post(url, data=filled(other, url)).status_code == 403
    assert (
        one.post("/logout", data={"form_token": fields(other.get("/").text, "/logout")["form_token"]}).status_code
        == 403
    )
    assert not asked.events(Kind.APPROVAL_GIVEN)


@pytest.mark.parametrize("headers", [
    {"origin": "https://evil.example"}, {"origin": "http://127.0.0.1:4200"}, {"origin": "null"},
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "none"},
    {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8765"},
])  # fmt: skip
def test_a_form_that_another_site_sends_is_not_taken(at: Site, asked: Scene, headers: dict[str, str]) -> None:
    visitor, url = at.visitor(), asked.form_url(Ask.APPROVAL)
    for path, data in ((url, filled(visitor, url)), ("/login", {"token": at.tokens.issue("ben")})):
        assert visitor.post(path, data=data, headers=headers).status_code == 403, path
    assert not asked.events(Kind.APPROVAL_GIVEN)


@pytest.mark.parametrize("headers", [
    {"origin": "http://127.0.0.1:8765"}, {"sec-fetch-site": "same-origin", "origin": "null"}, {},
])  # fmt: skip
def test_a_form_of_our_own_page_is_taken(at: Site, asked: Scene, headers: dict[str, str]) -> None:
    visitor, url = at.visitor(), asked.form_url(Ask.APPROVAL)
    assert visitor.post(url, data=filled(visitor, url), headers=headers).status_code == 303


def test_when_the_session_is_over_nothing_is_done_and_what_was_typed_is_shown(at: Site, asked: Scene) -> None:
    visitor, url = at.visitor("ben"), asked.form_url(Ask.APPROVAL)
    form = {**filled(visitor, url), "note": "two paragraphs <b>of</b> thought"}
    at.tokens.revoke("ben")
    reply = visitor.post(url, data=form)
    assert reply.status_code == 401
    assert "two paragraphs &lt;b&gt;of" in reply.text
    assert not asked.events(Kind.APPROVAL_GIVEN)


@pytest.mark.parametrize(("body", "kind", "status"), [
    (b"x" * 70_000, "application/x-www-form-urlencoded", 413),
    (b"&".join(b"a%d=1" % n for n in range(300)), "application/x-www-form-urlencoded", 413),
    (b"\xff\xfe", "application/x-www-form-urlencoded", 413),
    (b"choice=%ff", "application/x-www-form-urlencoded", 413),
    (b'{"choice": "proceed"}', "application/json", 413),
])  # fmt: skip
def test_what_is_no_form_is_not_taken(at: Site, asked: Scene, body: bytes, kind: str, status: int) -> None:
    reply = at.visitor().post(asked.form_url(Ask.APPROVAL), content=body, headers={"content-type": kind})
    assert reply.status_code == status
    assert not asked.events(Kind.ANSWER_REJECTED)


def test_refused_answers_cannot_fill_the_journal(at: Site, asked: Scene) -> None:
    visitor, url = at.visitor(), asked.form_url(Ask.APPROVAL)
    form = {**filled(visitor, url), "choice": "done"}
    statuses = [visitor.post(url, data=form).status_code for _ in range(ANSWERS_PER_MINUTE + 3)]
    assert statuses == [422] * ANSWERS_PER_MINUTE + [429] * 3
    assert len(asked.events(Kind.ANSWER_REJECTED)) == ANSWERS_PER_MINUTE


@pytest.mark.parametrize("id_", ["x", "1" * 40, "../x", "%00", "0x9", "٣"])
def test_a_question_that_cannot_be_is_not_found_and_not_recorded(at: Site, asked: Scene, id_: str) -> None:
    visitor = at.visitor()
    form = filled(visitor, asked.form_url(Ask.APPROVAL))
    assert visitor.post(f"{asked.url}/questions/{id_}", data=form).status_code in (404, 405)
    assert not asked.events(Kind.ANSWER_REJECTED)
