"""What every Store promises (core.ports), on SQLite and on PostgreSQL."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from irflow.adapters.journal_sql import SqlStore
from irflow.core.errors import ClaimLost, JournalError
from irflow.core.incident import SYSTEM
from irflow.core.journal import GENESIS, Draft, Kind, verify
from irflow.core.ports import Claim, Run, Store, Transaction
from tests.adapters.samples import a_message, a_run, an_alert, an_incident, note
from tests.services.stores import Opener


def add(incident: str, *drafts: Draft) -> Callable[[Transaction], object]:
    """Work that appends."""
    return lambda tx: tx.append(incident, *drafts)


def claim(store: SqlStore, owner: str, stale_s: float = 3600.0, step: str = "s") -> Claim | None:
    return store.transact(lambda tx: tx.claim("I", step, owner, stale_s=stale_s))


def until(condition: Callable[[], bool]) -> None:
    """Wait for it, at most 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def enqueue(store: SqlStore, number: int) -> str:
    return store.transact(lambda tx: tx.enqueue("notify", {"n": number}))


def begin(store: SqlStore, run: Run) -> None:
    store.transact(lambda tx: tx.begin_run(run))


def must_claim(store: SqlStore, owner: str, stale_s: float = 3600.0, step: str = "s") -> Claim:
    taken = claim(store, owner, stale_s, step)
    assert taken is not None
    return taken


class TestTheChain:
    def test_events_come_back_as_they_were_written_and_linked(self, store: SqlStore) -> None:
        data = {"text": "ünïcode \u0000 \U0001f600", "list": [1, 2.5, None, True], "deep": {"b": 1, "a": {}}}
        written = store.transact(
            lambda tx: tx.append("I", Draft(Kind.STEP_INTENT, "irflow:x", data, "step", "web-1", 7), note())
        )
        assert store.events("I") == list(written)
        assert [(event.seq, event.prev) for event in written] == [(1, GENESIS), (2, written[0].hash)]
        assert (written[0].step, written[0].target, written[0].epoch, written[0].data) == ("step", "web-1", 7, data)
        assert verify("I", written, ()).intact

    def test_each_incident_has_its_own_sequence(self, store: SqlStore) -> None:
        for incident in ("A", "B", "A"):
            store.transact(add(incident, note()))
        assert [event.seq for event in store.events("A")] == [1, 2]
        assert [event.seq for event in store.events("B")] == [1]

    def test_events_after_a_sequence_number(self, store: SqlStore) -> None:
        store.transact(add("I", note("a"), note("b"), note("c")))
        assert [event.data["text"] for event in store.events("I", after=1)] == ["b", "c"]
        assert store.events("nobody") == []

    def test_a_transaction_sees_what_it_appended(self, store: SqlStore) -> None:
        def work(tx: Transaction) -> int:
            tx.append("I", note())
            tx.append("I", note())
            return len(tx.events("I"))

        assert store.transact(work) == 2

    def test_an_exception_undoes_its_own_work_only_and_reaches_its_caller(self, store: SqlStore) -> None:
        def broken(tx: Transaction) -> None:
            tx.append("I", note("lost"))
            tx.enqueue("notify", {})
            raise ZeroDivisionError("mine")

        with pytest.raises(ZeroDivisionError, match="mine"):
            store.transact(broken)
        store.transact(add("I", note("kept")))
        assert [(event.seq, event.data["text"]) for event in store.events("I")] == [(1, "kept")]
        assert store.pending() == []

    @pytest.mark.parametrize("bad", [float("nan"), 2**60, "\ud800", object()])
    def test_data_that_json_cannot_say_is_refused(self, store: SqlStore, bad: object) -> None:
        with pytest.raises(JournalError, match="cannot be written as JSON"):
            store.transact(add("I", note(bad=bad)))
        assert store.events("I") == []

    @pytest.mark.parametrize(
        "attack",
        [
            "UPDATE events SET data = '{}' WHERE seq = 1",
            "UPDATE events SET seq = 99",
            "DELETE FROM events WHERE seq = 1",
            "DELETE FROM events",
        ],
    )
    def test_the_database_itself_refuses_to_change_or_delete_events(self, store: SqlStore, attack: str) -> None:
        before = store.transact(add("I", note("a"), note("b")))
        with pytest.raises(Exception, match="append-only"), store.database.writing.begin() as connection:
            connection.execute(text(attack))
        assert tuple(store.events("I")) == before

    def test_a_second_event_with_the_same_place_is_refused(self, store: SqlStore) -> None:
        store.transact(add("I", note()))
        columns = "incident, seq, at, kind, step, target, epoch, actor, data, prev, hash"
        again = f"INSERT INTO events ({columns}) SELECT {columns} FROM events"
        with pytest.raises(Exception, match=r"append-only|unique"), store.database.writing.begin() as connection:
            connection.execute(text(again))
        assert len(store.events("I")) == 1

    def test_reading_cannot_write(self, store: SqlStore) -> None:
        with pytest.raises(JournalError, match="read-only"):
            store.read(add("I", note()))
        assert store.events("I") == []

    def test_reading_does_not_wait_for_a_writer(self, store: SqlStore) -> None:
        store.transact(add("I", note("before")))
        writing, go_on = threading.Event(), threading.Event()

        def slow(tx: Transaction) -> None:
            tx.append("I", note("meanwhile"))
            writing.set()
            assert go_on.wait(20)

        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(store.transact, slow)
            assert writing.wait(20)
            assert [event.data["text"] for event in store.events("I")] == ["before"]
            go_on.set()
            future.result(20)
        assert len(store.events("I")) == 2

    def test_transact_inside_transact_is_an_error_and_no_deadlock(self, store: SqlStore) -> None:
        with pytest.raises(JournalError, match="inside transact"):
            store.transact(lambda _tx: store.transact(add("I", note())))

    def test_a_closed_store_says_so(self, opened: Opener) -> None:
        store: Store = opened()
        store.close()
        store.close()
        with pytest.raises(JournalError, match="closed"):
            store.transact(add("I", note()))
        with pytest.raises(JournalError, match="closed"):
            store.events("I")


class TestManyAtOnce:
    def test_threads_share_commits_and_see_their_own_work_from_another_connection(
        self, store: SqlStore, opened: Opener
    ) -> None:
        other = opened()
        start = threading.Barrier(32)
        before = store.commits

        def writer(number: int) -> None:
            start.wait(20)
            for turn in range(1, 11):
                (event,) = store.transact(lambda tx: tx.append(f"I{number}", note()))
                assert event.seq == turn
                assert other.events(f"I{number}")[-1] == event

        with ThreadPoolExecutor(32) as pool:
            list(pool.map(writer, range(32)))
        assert 0 < store.commits - before < 320 / 2

    def test_one_chain_written_by_many_threads_and_stores_has_no_lost_or_doubled_number(self, opened: Opener) -> None:
        stores = [opened() for _ in range(3)]

        def writer(number: int) -> None:
            for turn in range(10):
                stores[number % 3].transact(add("I", note(f"{number}/{turn}")))

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(writer, range(12)))
        events = stores[0].events("I")
        assert [event.seq for event in events] == list(range(1, 121))
        assert len({event.data["text"] for event in events}) == 120
        assert verify("I", events, ()).intact

    def test_one_failure_in_a_shared_commit_hurts_nobody_else(self, store: SqlStore) -> None:
        start = threading.Barrier(16)

        def writer(number: int) -> bool:
            start.wait(20)

            def work(tx: Transaction) -> None:
                tx.append("I", note(str(number)))
                if number % 2:
                    raise KeyError(number)

            try:
                store.transact(work)
            except KeyError as error:
                assert error.args == (number,)
                return False
            return True

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(writer, range(16))) == [number % 2 == 0 for number in range(16)]
        assert sorted(int(event.data["text"]) for event in store.events("I")) == list(range(0, 16, 2))
        assert verify("I", store.events("I"), ()).intact

    def test_what_one_work_undoes_never_takes_along_what_another_wrote_before_it(self, store: SqlStore) -> None:
        blocking, go_on = threading.Event(), threading.Event()

        def block(_tx: Transaction) -> None:
            blocking.set()
            assert go_on.wait(20)

        def fail(tx: Transaction) -> None:
            tx.enqueue("notify", {})
            tx.append("I", note("lost"))
            assert [event.data["text"] for event in tx.events("I")] == ["kept", "lost"]
            raise KeyError("mine")

        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(store.transact, block)
            assert blocking.wait(20)
            kept = pool.submit(store.transact, add("I", note("kept")))
            until(lambda: store.waiting == 1)
            failed = pool.submit(store.transact, fail)
            until(lambda: store.waiting == 2)
            go_on.set()
            first.result(20)
            kept.result(20)
            with pytest.raises(KeyError, match="mine"):
                failed.result(20)
        events = store.events("I")
        assert [event.data["text"] for event in events] == ["kept"]
        assert verify("I", events, ()).intact
        assert store.pending() == []


class TestIncidents:
    def test_opening_gives_a_number_writes_the_first_event_and_indexes_it(self, store: SqlStore) -> None:
        wanted = an_incident()
        opened = store.transact(lambda tx: tx.open_incident(wanted, "irflow:web"))
        assert opened.number == f"IR-{datetime.now(UTC).year}-0001"
        (first,) = store.events(wanted.id)
        assert (first.kind, first.actor, first.data) == (
            "incident.opened",
            "irflow:web",
            {"incident": opened.to_data()},
        )
        assert store.find_incident(opened.number.lower()) == opened
        assert store.find_incident(wanted.id.lower()) == opened
        assert store.find_incident("IR-1999-0001") is None
        assert store.find_incident("x\x00' OR 1=1") is None

    def test_numbers_have_no_gap_and_no_double_when_many_open_at_once(self, opened: Opener) -> None:
        stores = [opened(), opened()]

        def opening(turn: int) -> str | None:
            def work(tx: Transaction) -> str:
                number = tx.open_incident(an_incident(), "x").number
                if turn % 5 == 0:
                    raise KeyError(turn)
                return number

            try:
                return stores[turn % 2].transact(work)
            except KeyError:
                return None

        with ThreadPoolExecutor(10) as pool:
            numbers = {number for number in pool.map(opening, range(50)) if number}
        year = datetime.now(UTC).year
        assert numbers == {f"IR-{year}-{serial:04d}" for serial in range(1, 41)}

    def test_open_ones_are_listed_oldest_first_and_all_of_them_newest_first(self, store: SqlStore) -> None:
        made = [store.transact(lambda tx: tx.open_incident(an_incident(), "x")) for _ in range(3)]
        grown = made[1].model_copy(update={"hosts": ("web-1", "web-2")})
        store.transact(lambda tx: tx.index_incident(grown, closed=False))
        store.transact(lambda tx: tx.index_incident(made[0], closed=True))
        assert store.read(lambda tx: tx.open_incidents()) == [grown, made[2]]
        assert store.incidents() == [(made[2], False), (grown, False), (made[0], True)]
        assert store.incidents(closed=True) == [(made[0], True)]
        assert store.incidents(limit=1) == [(made[2], False)]

    def test_indexing_what_was_never_opened_is_an_error(self, store: SqlStore) -> None:
        with pytest.raises(JournalError, match="no such incident"):
            store.transact(lambda tx: tx.index_incident(an_incident(), closed=True))

    def test_the_position_grows_with_every_event_of_any_journal_and_with_nothing_else(self, store: SqlStore) -> None:
        assert store.position() == 0
        store.transact(add("A", note()))
        first = store.position()
        store.transact(add("B", note()))
        second = store.position()
        store.heartbeat("somebody")
        assert 0 < first < second == store.position()

    def test_halt_and_resume_are_read_from_the_journal_of_the_installation(self, store: SqlStore) -> None:
        assert store.halted() is None
        store.transact(add(SYSTEM, Draft(Kind.HALTED, "operator:ana", {"reason": "false alarms"})))
        assert store.halted() == "false alarms"
        store.transact(add(SYSTEM, note()))
        assert store.halted() == "false alarms"
        store.transact(add(SYSTEM, Draft(Kind.RESUMED, "operator:ana", {})))
        assert store.halted() is None


class TestIntake:
    def test_a_request_is_kept_byte_for_byte(self, store: SqlStore) -> None:
        message = a_message(response={"alerts": [{"alert_id": "A", "duplicate_of": None}]})
        store.transact(lambda tx: tx.save_message(message))
        assert store.read(lambda tx: tx.message("edr", "m-1")) == message
        assert store.read(lambda tx: tx.message("siem", "m-1")) is None

    def test_a_second_request_with_the_same_id_is_refused_whoever_brings_it(self, opened: Opener) -> None:
        stores = [opened(), opened()]

        def save(turn: int) -> bool:
            try:
                stores[turn % 2].transact(lambda tx: tx.save_message(a_message()))
            except JournalError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(save, range(8))) == 1

    def test_a_repeat_is_found_while_its_incident_is_open_and_it_is_not_resolved(self, store: SqlStore) -> None:
        incident = store.transact(lambda tx: tx.open_incident(an_incident(), "x"))
        first, second = an_alert(), an_alert()
        assert store.read(lambda tx: tx.firing("edr", "beacon@web-1")) is None
        store.transact(lambda tx: tx.save_alert(first, incident.id, None))
        assert store.read(lambda tx: tx.firing("edr", "beacon@web-1")) == (first.id, incident.id)
        store.transact(lambda tx: tx.save_alert(second, incident.id, first.id))
        assert store.read(lambda tx: tx.firing("edr", "beacon@web-1")) == (first.id, incident.id)
        assert store.read(lambda tx: tx.firing("siem", "beacon@web-1")) is None
        store.transact(lambda tx: tx.save_alert(an_alert(status="resolved"), incident.id, None))
        assert store.read(lambda tx: tx.firing("edr", "beacon@web-1")) is None

    def test_trouble_that_comes_back_after_it_was_resolved_or_closed_is_new(self, store: SqlStore) -> None:
        incident = store.transact(lambda tx: tx.open_incident(an_incident(), "x"))
        store.transact(lambda tx: tx.save_alert(an_alert(), incident.id, None))
        store.transact(lambda tx: tx.save_alert(an_alert(status="resolved"), incident.id, None))
        back = an_alert()
        store.transact(lambda tx: tx.save_alert(back, incident.id, None))
        assert store.read(lambda tx: tx.firing("edr", "beacon@web-1")) == (back.id, incident.id)
        store.transact(lambda tx: tx.index_incident(incident, closed=True))
        assert store.read(lambda tx: tx.firing("edr", "beacon@web-1")) is None

    def test_hostile_text_is_kept_as_data(self, store: SqlStore) -> None:
        alert = an_alert(fingerprint="'; DROP TABLE events;--\x00", title="{{ 7*7 }} $(id)\x00", source="edr\x00")
        incident = store.transact(lambda tx: tx.open_incident(an_incident(title=alert.title), "x"))
        store.transact(lambda tx: tx.save_alert(alert, incident.id, None))
        assert store.read(lambda tx: tx.firing(alert.source, alert.fingerprint)) == (alert.id, incident.id)
        assert store.find_incident(incident.id) == incident


class TestTheOutbox:
    def test_items_come_oldest_first_and_count_their_attempts(self, store: SqlStore) -> None:
        ids = [enqueue(store, n) for n in range(3)]
        store.transact(lambda tx: tx.enqueue("flow", {}))
        items = store.take(["notify"], "me", lease_s=60, limit=2)
        assert [(item.id, item.kind, item.payload, item.attempts) for item in items] == [
            (ids[0], "notify", {"n": 0}, 1),
            (ids[1], "notify", {"n": 1}, 1),
        ]
        assert len(store.pending()) == 4

    def test_a_leased_item_is_nobody_elses_until_the_lease_ends(self, store: SqlStore) -> None:
        item = store.transact(lambda tx: tx.enqueue("notify", {}))
        assert [one.id for one in store.take(["notify"], "a", lease_s=60)] == [item]
        assert store.take(["notify"], "b", lease_s=60) == []
        other = store.transact(lambda tx: tx.enqueue("notify", {}))
        assert [one.id for one in store.take(["notify"], "a", lease_s=0)] == [other]
        assert [(one.id, one.attempts) for one in store.take(["notify"], "b", lease_s=60)] == [(other, 2)]

    def test_takers_at_once_never_get_the_same_item(self, opened: Opener) -> None:
        stores = [opened(), opened()]

        def fill(tx: Transaction) -> list[str]:
            return [tx.enqueue("notify", {}) for _ in range(60)]

        wanted = stores[0].transact(fill)

        def taker(number: int) -> list[str]:
            mine: list[str] = []
            while items := stores[number % 2].take(["notify"], str(number), lease_s=60, limit=3):
                mine += [item.id for item in items]
            return mine

        with ThreadPoolExecutor(8) as pool:
            taken = [item for mine in pool.map(taker, range(8)) for item in mine]
        assert sorted(taken) == sorted(wanted)

    def test_what_is_not_due_waits_and_again_sets_a_new_time(self, store: SqlStore) -> None:
        now = datetime.now(UTC)
        item = store.transact(lambda tx: tx.enqueue("notify", {}, due=now + timedelta(hours=1)))
        assert store.take(["notify"], "a", lease_s=60) == []
        store.again(item, now - timedelta(seconds=1), "mail server down\x00")
        assert [one.id for one in store.take(["notify"], "a", lease_s=60)] == [item]
        store.again(item, now + timedelta(hours=1), "still down")
        assert store.take(["notify"], "a", lease_s=60) == []
        store.done(item)
        store.done(item)
        assert store.pending() == []

    def test_an_item_exists_only_if_its_transaction_did(self, store: SqlStore) -> None:
        def work(tx: Transaction) -> None:
            tx.enqueue("respond", {})
            raise KeyError

        with pytest.raises(KeyError):
            store.transact(work)
        assert store.take(["respond"], "a", lease_s=1) == []
        assert store.take([], "a", lease_s=1) == []


class TestClaims:
    def test_one_owner_has_a_step_and_asking_again_changes_nothing(self, store: SqlStore) -> None:
        mine = must_claim(store, "a")
        assert claim(store, "b") is None
        assert must_claim(store, "a") == mine
        assert claim(store, "b", step="other") is not None

    def test_an_epoch_is_about_now_in_milliseconds_and_larger_than_any_before(self, store: SqlStore) -> None:
        first = must_claim(store, "a")
        assert abs(first.epoch - datetime.now(UTC).timestamp() * 1000) < 60_000
        epochs = [first.epoch] + [must_claim(store, "a", step=str(turn)).epoch for turn in range(50)]
        assert epochs == sorted(set(epochs))

    def test_a_silent_owner_loses_its_claim_and_can_write_nothing_more(self, store: SqlStore) -> None:
        old = must_claim(store, "a")
        new = must_claim(store, "b", stale_s=0)
        assert new.epoch > old.epoch
        with pytest.raises(ClaimLost, match=r"b \(epoch"):
            store.transact(lambda tx: tx.append("I", note(), claim=old))
        store.transact(lambda tx: tx.append("I", note("mine"), claim=new))
        assert [event.data["text"] for event in store.events("I")] == ["mine"]
        store.transact(lambda tx: tx.release(old))
        assert claim(store, "a") is None

    def test_an_owner_that_got_its_step_back_cannot_write_with_its_old_claim(self, store: SqlStore) -> None:
        old = must_claim(store, "a")
        other = must_claim(store, "b", stale_s=0)
        store.transact(lambda tx: tx.release(other))
        new = must_claim(store, "a")
        with pytest.raises(ClaimLost, match=f"epoch {new.epoch}"):
            store.transact(lambda tx: tx.append("I", note(), claim=old))
        store.transact(lambda tx: tx.release(old))
        store.transact(lambda tx: tx.append("I", note(), claim=new))

    def test_a_heartbeat_keeps_claims_alive(self, store: SqlStore, opened: Opener) -> None:
        must_claim(store, "a")
        stop = threading.Event()

        def beat() -> None:
            while not stop.is_set():
                store.heartbeat("a")

        with ThreadPoolExecutor(1) as pool:
            beating = pool.submit(beat)
            try:
                other = opened()
                assert [claim(other, "b", stale_s=5.0) for _ in range(20)] == [None] * 20
            finally:
                stop.set()
                beating.result(20)
        while claim(store, "b", stale_s=0.05) is None:
            pass

    def test_a_released_step_is_free_and_its_epoch_stays_used(self, store: SqlStore) -> None:
        old = must_claim(store, "a")
        store.transact(lambda tx: tx.release(old))
        with pytest.raises(ClaimLost, match="nobody"):
            store.transact(lambda tx: tx.append("I", note(), claim=old))
        assert must_claim(store, "b").epoch > old.epoch

    def test_of_many_who_ask_at_once_one_gets_it(self, opened: Opener) -> None:
        stores = [opened(), opened()]
        with ThreadPoolExecutor(16) as pool:
            got = list(pool.map(lambda number: claim(stores[number % 2], f"o{number}"), range(16)))
        assert len([one for one in got if one]) == 1


class TestRunsAndLeaders:
    def test_runs_are_listed_with_their_heartbeat_and_end(self, store: SqlStore) -> None:
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        for run in (a_run("r1", heartbeat_at=long_ago), a_run("r2", heartbeat_at=long_ago)):
            begin(store, run)
        store.transact(lambda tx: tx.begin_run(a_run("r3", phase="recovery")))
        store.transact(lambda tx: tx.end_run("r1"))
        first, second = store.read(lambda tx: tx.runs("I", "containment"))
        assert (first.id, first.ended_at is None, second.id, second.ended_at) == ("r1", False, "r2", None)
        assert second.heartbeat_at > long_ago
        store.heartbeat("worker-1")
        again = store.read(lambda tx: tx.runs("I", "containment"))
        assert again[0] == first
        assert again[1].heartbeat_at > second.heartbeat_at

    def test_a_run_that_begins_again_is_the_same_run(self, store: SqlStore) -> None:
        store.transact(lambda tx: tx.begin_run(a_run()))
        store.transact(lambda tx: tx.end_run("run-1"))
        store.transact(lambda tx: tx.begin_run(a_run(owner="worker-2")))
        (run,) = store.read(lambda tx: tx.runs("I", "containment"))
        assert (run.owner, run.ended_at) == ("worker-2", None)

    def test_one_leads_until_it_falls_silent(self, store: SqlStore) -> None:
        assert store.lead("reconciler", "a", ttl_s=60)
        assert store.lead("reconciler", "a", ttl_s=60)
        assert not store.lead("reconciler", "b", ttl_s=60)
        assert store.lead("drill", "b", ttl_s=60)
        assert store.lead("reconciler", "a", ttl_s=0)
        assert store.lead("reconciler", "b", ttl_s=60)
        assert not store.lead("reconciler", "a", ttl_s=60)

    def test_of_many_who_want_to_lead_one_does(self, opened: Opener) -> None:
        stores = [opened(), opened()]
        with ThreadPoolExecutor(8) as pool:
            led = list(pool.map(lambda n: stores[n % 2].lead("reconciler", f"o{n}", ttl_s=60), range(8)))
        assert sum(led) == 1


class TestFaultPoints:
    def test_every_event_passes_before_and_after_its_commit(self, opened: Opener) -> None:
        seen: list[tuple[str, int]] = []
        reader = opened()
        store = opened(fault=lambda point: seen.append((point, len(reader.events("I")))))

        def work(tx: Transaction) -> None:
            mine = tx.claim("I", "s", "a", stale_s=1)
            tx.append("I", note(), Draft(Kind.STEP_INTENT, "x", {}), claim=mine)
            tx.enqueue("notify", {})

        store.transact(work)
        points = ["claim", "note", "step.intent", "outbox"]
        assert seen == [(f"before:{point}", 0) for point in points] + [(f"after:{point}", 2) for point in points]

    def test_work_that_failed_passes_no_point(self, opened: Opener) -> None:
        seen: list[str] = []
        store = opened(fault=seen.append)

        def work(tx: Transaction) -> None:
            tx.append("I", note())
            raise KeyError

        with pytest.raises(KeyError):
            store.transact(work)
        assert seen == []

    def test_a_hook_that_raises_reaches_the_callers_and_leaves_the_store_usable(self, opened: Opener) -> None:
        def hook(point: str) -> None:
            if point == "before:escalated":
                raise InterruptedError(point)

        store = opened(fault=hook)
        with pytest.raises(InterruptedError):
            store.transact(add("I", Draft(Kind.ESCALATED, "x", {})))
        store.transact(add("I", note()))
        assert [event.kind for event in store.events("I")] == ["note"]


def test_the_number_and_the_moment_of_an_event_have_their_forms(store: SqlStore) -> None:
    (event,) = store.transact(lambda tx: tx.append("I", note()))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event.at)
    assert re.fullmatch(r"[0-9a-f]{64}", event.hash)
