"""Stepping through a run in Prefect: what the form says, what counts as an answer, and what does not."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest

from irflow.core.answers import Answer, give
from irflow.core.approvals import Operator
from irflow.core.journal import Event, Kind
from irflow.core.mode import Mode
from irflow.core.questions import Choice, questions
from irflow.core.status import State
from tests.services.prefect import PrefectSite, until

pytestmark = pytest.mark.timeout(240)


def said(site: PrefectSite, incident: Any, kind: Kind) -> list[Event]:
    return [one for one in site.store.events(incident.id) if one.kind == kind]


def key(run: dict[str, Any]) -> str:
    return str(run["state"]["state_details"]["pause_key"])


def test_a_run_goes_step_by_step_with_a_form_before_each(prefect_site: PrefectSite) -> None:
    site, who = prefect_site, prefect_site.person()
    incident = site.incident("guided", "a", mode=Mode.STEP)
    (name,) = incident.accounts
    run = site.suspended(site.start(incident))
    schema, text = site.form(run)
    assert schema["properties"]["decision"]["enum"] == ["proceed", "skip", "abort"]
    assert {"decision", "operator", "code"} == set(schema["required"])
    assert who in schema["properties"]["operator"]["enum"]
    assert "speaker" not in schema["properties"]["operator"]["enum"]
    for part in (
        "Mark <b>it</b>",
        "What it would change now:** mark",
        "How it is taken back",
        " min left of",
        "guided",
    ):
        assert part in text.replace("\\", ""), text
    assert site.marked(name) == []
    assert site.answer(run, who, decision="proceed", note="go")["status"] == "ACCEPT"

    run = site.suspended(run["id"], after=key(run))
    schema, text = site.form(run)
    assert len(site.marked(name)) == 1
    assert schema["properties"]["outcome"]["enum"] == ["done", "failed", "skipped", "repeat", "abort"]
    assert schema["properties"]["owner_said"]["enum"] == ["yes", "no"]
    assert schema["properties"]["minutes"]["type"] == "integer"
    assert "Call the owner of" in text
    site.answer(run, who, outcome="done", evidence="ticket system", ticket="T-7", minutes=3, owner_said="yes")

    run = site.suspended(run["id"], after=key(run))
    assert site.marked(f"{name}-again") == []
    site.answer(run, site.person(), decision="proceed")
    assert site.ended(run["id"])["state"]["message"] == "containment has ended"
    assert (len(site.marked(name)), len(site.marked(f"{name}-again"))) == (1, 1)
    decided = said(site, incident, Kind.STEP_DECIDED)
    assert [(one.data["decision"], one.data["method"], one.data["role"]) for one in decided] == [
        ("proceed", "totp", "incident_commander")
    ] * 2
    (manual,) = said(site, incident, Kind.MANUAL_ANSWERED)
    assert manual.data["facts"] == {"ticket": "T-7", "minutes": 3, "owner_said": "yes"}
    assert (manual.data["evidence"], manual.data["operator"], manual.data["method"]) == ("ticket system", who, "totp")


def test_a_code_that_is_wrong_used_or_of_the_wrong_person_answers_nothing(prefect_site: PrefectSite) -> None:
    site, who = prefect_site, prefect_site.person()
    incident = site.incident("guided", "a", mode=Mode.STEP)
    (name,) = incident.accounts
    run = site.suspended(site.start(incident))
    used = site.phones.code(who)
    tries: tuple[tuple[dict[str, Any], str], ...] = (
        ({"operator": who, "code": site.phones.wrong(who)}, "no good code"),
        ({"operator": "somebody", "code": used}, "no good code"),
        ({"operator": "looker", "code": site.phones.code("looker")}, "access monitor"),
        ({"operator": "speaker", "code": site.phones.code("speaker")}, "none of the roles"),
        ({"operator": who, "code": used, "note": "x" * 5000}, "are texts"),
        ({"operator": who, "code": used, "decision": "please"}, "is no answer"),
        ({"operator": [who], "code": {}}, "are texts"),
        ({"decision": ["proceed"], "operator": who, "code": used}, "is no answer"),
        ({"operator": "\ud800", "code": used}, "are texts"),
        ({"operator": "x\0y", "code": used}, "are texts"),
    )
    for number, (given, reason) in enumerate(tries):
        site.forge(run, **{"decision": "proceed", **given})
        run = site.suspended(run["id"], after=key(run))
        rejected = said(site, incident, Kind.ANSWER_REJECTED)
        assert len(rejected) == number + 1
        assert reason in rejected[-1].data["reason"]
        assert reason in site.form(run)[1]
        until("the refusal in the log of the run", partial(site.logged, run["id"], reason))
        assert site.marked(name) == []
    other = site.person()  # whose code is fresh: the one from above may be too old by now
    code = site.phones.code(other)
    assert site.answer(run, other, code, decision="skip")["status"] == "ACCEPT"
    run = site.suspended(run["id"], after=key(run))
    site.answer(run, other, code, outcome="done", ticket="T")
    run = site.suspended(run["id"], after=key(run))
    assert re.search("was used already|no good code", said(site, incident, Kind.ANSWER_REJECTED)[-1].data["reason"])
    skipped, waits, _ = site.status(incident).steps.values()
    assert (skipped.state, waits.state) == (State.SKIPPED, State.AWAITING)


def test_a_retry_a_forced_run_and_a_second_resume_pass_no_question(prefect_site: PrefectSite) -> None:
    site, who = prefect_site, prefect_site.person()
    incident = site.incident("guided", "a", mode=Mode.STEP)
    (name,) = incident.accounts
    run = site.suspended(site.start(incident))
    empty = site.http.post(f"/flow_runs/{run['id']}/resume", json={"run_input": {}}).json()
    assert empty["status"] == "REJECT"
    assert "decision" in empty["details"]["reason"]
    # What the UI does on Cancel and then Retry.
    for state in ({"type": "CANCELLED"}, {"type": "SCHEDULED", "name": "AwaitingRetry"}):
        reply = site.http.post(f"/flow_runs/{run['id']}/set_state", json={"state": state, "force": True})
        assert reply.json()["status"] == "ACCEPT"
    again = site.suspended(run["id"], after=key(run))
    assert site.marked(name) == []
    assert site.answer(again, who, decision="proceed")["status"] == "ACCEPT"
    assert site.answer(again, who, decision="proceed")["status"] == "ABORT"
    then = site.suspended(run["id"], after=key(again))
    assert len(site.marked(name)) == 1
    # Answers to what is not asked any more, forged past the server's own check.
    other = site.person()
    forged = site.forge(run, decision="abort", operator=other, code=site.phones.code(other))
    then = site.suspended(run["id"], after=key(then))
    assert site.status(incident).phases["containment"].aborted_by == ""
    (late,) = said(site, incident, Kind.ANSWER_REJECTED)
    assert "does not wait for an answer any more" in late.data["reason"]
    assert site.http.get(f"/flow_runs/{run['id']}/input/{forged}").status_code == 404


def test_a_second_run_asks_nothing_looks_once_and_ends(prefect_site: PrefectSite) -> None:
    site = prefect_site
    incident = site.incident("guided", "a", mode=Mode.STEP)
    first = site.suspended(site.start(incident))
    second = site.ended(site.start(incident))
    assert second["state"]["name"] == "AwaitingApproval"
    until("what it says", lambda: site.logged(second["id"], "is answered, or asked by another flow run"))
    runs = site.store.read(lambda tx: tx.runs(incident.id, "containment"))
    assert len([one for one in runs if one.id.startswith(second["id"])]) == 1, "it went through the phase once"
    assert list(site.status(incident).shown.values()) == [first["id"]]
    assert site.api.run_state(first["id"]) == "PAUSED"


def test_what_is_answered_elsewhere_is_not_asked_again_and_the_same_run_goes_on(prefect_site: PrefectSite) -> None:
    site = prefect_site
    incident = site.incident("guided", "a", mode=Mode.STEP)
    run = site.suspended(site.start(incident))
    one = Operator(name="one", login="root", roles=("incident_commander",))
    (asked,) = questions(site.status(incident))
    assert site.status(incident).shown == {asked.id: run["id"]}
    answer = Answer(Choice.PROCEED)
    site.store.transact(lambda tx: give(tx, incident.id, one, asked.id, answer, method="os-account"))
    status = site.status(incident)
    assert (
        site.api.start(incident, "containment", key="k", forms=tuple(status.phases["containment"].forms)) == run["id"]
    )
    run = site.suspended(run["id"], after=key(run))
    assert "outcome" in site.form(run)[0]["properties"]
    assert not said(site, incident, Kind.ANSWER_REJECTED)


def test_a_failed_step_is_asked_about_and_can_be_repeated_or_left_out(prefect_site: PrefectSite) -> None:
    site = prefect_site
    incident = site.incident("failing", "a", mode=Mode.STEP)
    run = site.suspended(site.start(incident))
    site.answer(run, site.person(), decision="proceed")
    run = site.suspended(run["id"], after=key(run))
    schema, text = site.form(run)
    assert schema["properties"]["decision"]["enum"] == ["repeat", "skip", "abort"]
    assert "has failed" in text
    site.answer(run, site.person(), decision="repeat")
    run = site.suspended(run["id"], after=key(run))
    assert len(said(site, incident, Kind.STEP_INTENT)) == 2
    site.answer(run, site.person(), decision="abort")
    assert site.ended(run["id"])["state"]["type"] == "COMPLETED"
    assert site.status(incident).phases["containment"].outcome == "aborted"


def test_a_plan_is_approved_or_refused_in_a_form_too(prefect_site: PrefectSite) -> None:
    site, who = prefect_site, prefect_site.person()
    incident = site.incident("asking", "a")
    run = site.suspended(site.start(incident))
    schema, text = site.form(run)
    assert schema["properties"]["decision"]["enum"] == ["proceed", "abort"]
    assert "incident commander" in text
    site.answer(run, who, decision="proceed")
    assert site.ended(run["id"])["state"]["message"] == "containment has ended"
    (given,) = site.status(incident).approvals
    assert (given.operator, given.method) == (who, "totp")


def test_twenty_runs_wait_at_once_and_each_goes_on_with_its_own_answer(prefect_site: PrefectSite) -> None:
    site, count = prefect_site, 20
    incidents = [site.incident("guided", "a", mode=Mode.STEP) for _ in range(count)]
    started = [site.start(one) for one in incidents]
    runs = [site.suspended(run) for run in started]
    assert [len(questions(site.status(one))) for one in incidents] == [1] * count
    for run in runs:
        assert site.answer(run, site.person(), decision="proceed")["status"] == "ACCEPT"
    for incident, run in zip(incidents, runs, strict=True):
        then = site.suspended(run["id"], after=key(run))
        assert "outcome" in site.form(then)[0]["properties"]
        assert len(site.marked(incident.accounts[0])) == 1
        assert len(said(site, incident, Kind.STEP_DECIDED)) == 1
        assert not said(site, incident, Kind.ANSWER_REJECTED)
