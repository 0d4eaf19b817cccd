"""Forms in Prefect: a run that waits for a person is suspended and shows one; its answer counts once irflow agrees.

Prefect's own word for an answer, that the run goes on, decides nothing: the run looks into the journal whether its
question was answered, and asks again where it was not.
"""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import Abort, ObjectNotFound, Pause, PrefectException
from prefect.input.run_input import keyset_from_paused_state
from prefect.states import Suspended
from prefect.utilities.engine import propose_state_sync
from ulid import ULID

from irflow.core.answer_form import filled_in, schema
from irflow.core.answers import give, reject
from irflow.core.briefing import briefing, lines
from irflow.core.errors import IrflowError
from irflow.core.incident import Incident
from irflow.core.journal import Draft, Kind
from irflow.core.model import Json
from irflow.core.ports import Transaction
from irflow.core.questions import Question, question, questions
from irflow.core.status import IncidentStatus, fold
from irflow.flows.plain import markdown, plain
from irflow.wiring import Runtime
from irflow.wiring.identity import identities

log = logging.getLogger(__name__)

METHOD = "totp"
MOST_FORMS = 200
"""Answers of one flow run that are read; each is deleted once it is dealt with."""


class Forms:
    """The forms of one flow run."""

    def __init__(self, wired: Runtime, incident: Incident, flow_run: UUID) -> None:
        self._wired, self._incident, self._flow_run = wired, incident, flow_run

    def take_answers(self) -> None:
        """Write down what people filled in since the last time, or why it was not taken."""
        with get_client(sync_client=True) as client:
            for key, given in self._unread(client):
                self._take(key.removeprefix("suspended-").removesuffix("-response"), given)
                client.delete_flow_run_input(self._flow_run, key)

    def _unread(self, client: SyncPrefectClient) -> Iterator[tuple[str, dict[str, Json]]]:
        """Keys and contents of the answers that Prefect holds; how to read them is up to nobody but us: JSON."""
        for one in client.filter_flow_run_input(self._flow_run, "suspended-", MOST_FORMS, set()):
            if one.key.endswith("-response"):
                try:
                    found = json.loads(one.value)
                except (ValueError, RecursionError):  # no form sent this; it must not stop the run each time
                    found = None
                yield one.key, found if isinstance(found, dict) else {}

    def _take(self, form: str, given: dict[str, Json]) -> None:
        store, incident = self._wired.store, self._incident.id
        name = f"{self._flow_run}/{form}"
        status = fold(store.events(incident))
        if name in status.forms:
            log.warning("this form was answered before; its second answer counts for nothing")
            return
        id_ = form.partition("-")[0]
        asked = question(status, id_)
        who = plain(given.get("operator") or "", 80)
        try:
            who, code, answer = filled_in(asked, given)
            operator = identities(self._wired.configuration, store).prove(who, code, for_=self._incident.number)
            store.transact(lambda tx: give(tx, incident, operator, id_, answer, method=METHOD, form=name))
        except IrflowError as error:
            reason = str(error)
            log.warning("the answer of %s was not taken: %s", plain(who) or "nobody", plain(reason))
            store.transact(lambda tx: reject(tx, incident, id_, who=who, method=METHOD, reason=reason, form=name))
            return
        log.info("%s answered %s: %s", who, plain(asked.title) if asked else id_, answer.choice)

    def ask(self, phase: str) -> bool:
        """Suspend the flow run with a form for the first question that waits in this phase.

        Raises Pause, which ends the process; the run goes on when the form is filled in or the question is answered
        elsewhere. Returns whether it can go on at once, for the question was answered meanwhile. It can not where
        Prefect does not let it wait, or another run asks already: the question stands all the same.
        """
        status = fold(self._wired.store.events(self._incident.id))
        asked = next((one for one in questions(status) if one.phase == phase), None)
        if asked is None:
            return True
        if not self._note(asked, self._ended(status.shown.get(asked.id))):
            return question(fold(self._wired.store.events(self._incident.id)), asked.id) is None
        state: State[Any] = Suspended(pause_key=f"{asked.form}-{ULID()}".lower())
        keys: dict[str, str] = {str(name): key for name, key in keyset_from_paused_state(state).items()}
        state.state_details.run_input_keyset = keys
        # Nothing is left to do but to end; a worker that is stopped meanwhile must not make this a crash.
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            with get_client(sync_client=True) as client:
                form, text = schema(asked, self._wired.configuration.operators), self._described(asked, status)
                # The form first: a run that is suspended without one could never be answered.
                client.create_flow_run_input(self._flow_run, keys["schema"], json.dumps(form))
                client.create_flow_run_input(self._flow_run, keys["description"], json.dumps(text))
                proposed = propose_state_sync(client, state, flow_run_id=self._flow_run)
        except (httpx.HTTPError, PrefectException, Abort) as error:
            log.warning("no form for %s: %s", plain(asked.title), plain(error))
        else:
            if proposed.is_paused():
                log.info("waiting for a person: %s", plain(asked.title))
                raise Pause(state=proposed)
            log.warning("no form for %s: Prefect wants the run to be %s", plain(asked.title), proposed.type)
        signal.signal(signal.SIGTERM, before)
        return False

    def _ended(self, other: str | None) -> str | None:
        """The run that showed a question, if it will not do so any more."""
        if other is None or other == str(self._flow_run):
            return other
        try:
            with get_client(sync_client=True) as client:
                state = client.read_flow_run(UUID(other)).state
        except ObjectNotFound:  # its run was deleted
            return other
        except (httpx.HTTPError, PrefectException):  # it may wait yet; whether it does is looked at again later
            return None
        return None if state is None or not state.is_final() else other

    def _note(self, asked: Question, ended: str | None) -> bool:
        """Let those who look at the question find the run that shows its form: this one, unless another does.

        ended: a run that did and has ended. Returns whether this one is to show it: of several, one transaction wins.
        """

        def work(tx: Transaction) -> bool:
            status, mine = fold(tx.events(self._incident.id)), str(self._flow_run)
            shows = status.shown.get(asked.id)
            if question(status, asked.id) is None or shows not in (None, mine, ended):
                return False
            if shows != mine:
                data: dict[str, Json] = {"question": asked.id, "flow_run": mine, "phase": asked.phase}
                tx.append(self._incident.id, Draft(Kind.FORM_SHOWN, self._wired.engine.actor, data))
            return True

        found = self._wired.store.transact(work)
        if not found:
            log.info("%s is answered, or asked by another flow run", plain(asked.title))
        return found

    def _described(self, asked: Question, status: IncidentStatus) -> str:
        engine = self._wired.engine
        told = briefing(asked, status, engine.catalog.actions, engine.ports.clock.now())
        parts = [f"## {markdown(told.title)}"]
        for heading, texts in lines(told):
            first, *more = (markdown(one, 2000) for one in texts)
            listed = ["", *(f"- {one}" for one in (first, *more))] if more else []
            parts += ["", f"**{heading}**" if more else f"**{heading}:** {first}", *listed]
        number = self._incident.number
        parts += ["", f"Also: `irflow step {number}` in a terminal. The journal is the record."]
        return "\n".join(parts) + "\n"
