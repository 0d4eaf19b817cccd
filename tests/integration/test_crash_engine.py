"""kill -9 of the engine at every boundary of the journal, over real SSH: the next one leaves exactly one isolation.

Each case has an incident and a host of its own. One engine process dies there, a second one is started and lives.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from irflow.core.errors import RemoteFailed
from irflow.core.journal import Kind
from irflow.core.status import IncidentStatus, State
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.shipped import shipped
from tests.integration.lab_actions import Hands
from tests.services import engine_process
from tests.services.engines import Engines, engines
from tests.services.irflow_site import Isolation, Site, site, until

pytestmark = pytest.mark.timeout(240)

ISOLATE = "isolate-host.isolate"
AT_ONCE = 4

# Steps in order: snapshot, isolate, evidence; then the owner's call is asked for. Around each commit: before it is
# durable, and after it.
COMMITS = (
    ("phase.planned#1", "phase.started#1", "run.started#1"),
    ("claim#1",),
    ("step.intent#1",),
    ("step.outcome#1", "evidence.taken#1", "release#1"),
    ("claim#2",),
    ("step.intent#2",),
    ("step.outcome#2", "release#2"),
    ("claim#3",),
    ("step.intent#3",),
    ("step.outcome#3", "evidence.taken#2", "release#3"),
    ("person.asked#1", "outbox#1"),
)
BOUNDARIES = tuple(f"{when}:{point}" for points in COMMITS for when in ("before", "after") for point in points)
# Between the intent and the outcome of the cut nothing is written, but the host changes.
CALLS = tuple(f"{when}:isolate.sh {verb}" for verb in ("apply", "confirm") for when in ("before", "after"))


@dataclass(frozen=True)
class Ended:
    """What was found of one case. cut_silently: the host was cut at the death though no intent was durable."""

    first: int
    second: tuple[int, str]
    cut_silently: bool
    status: IncidentStatus
    isolation: Isolation
    isolate_epochs: tuple[int, ...]
    proven: int
    dark: bool
    lets_in: bool
    at: datetime


def carry_out(engine: Engines, here: Site, host: LabHost, boundary: str) -> Ended:
    """One case from the alert to the end of the second engine."""
    incident = here.alert(host.name)
    die = ("die", boundary) if boundary in CALLS else ()
    first, _ = engine.run(here.home, incident, *die, fault="" if die else boundary)
    cut = here.isolation(host).tables > 0
    silently = cut and not here.events(incident, Kind.STEP_INTENT, ISOLATE)
    second = engine.run(here.home, incident)
    outcomes = here.events(incident, Kind.STEP_OUTCOME, ISOLATE)
    return Ended(
        first=first,
        second=second,
        cut_silently=silently,
        status=here.status(incident),
        isolation=here.isolation(host),
        isolate_epochs=tuple(one.epoch for one in here.events(incident, Kind.STEP_INTENT, ISOLATE)),
        proven=sum(bool(one.data["leases"]) for one in outcomes),
        dark=here.dark(host),
        lets_in=here.lets_responder_in(host),
        at=datetime.now(UTC),
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    count = len(BOUNDARIES) + len(CALLS) + 3
    with Lab.up(count, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def here(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("site") / "home", lab, responder={"claim_stale": "1s"}) as made:
        yield made


@pytest.fixture(scope="module")
def cases(here: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Ended]]]:
    """All cases, several at a time."""
    with engines(tmp_path_factory.mktemp("engines") / "said") as engine, ThreadPoolExecutor(AT_ONCE) as pool:
        hosts = iter(here.lab.hosts[3:])
        yield {one: pool.submit(carry_out, engine, here, next(hosts), one) for one in (*BOUNDARIES, *CALLS)}


def test_the_table_has_every_boundary_that_containment_passes(here: Site, tmp_path: Path) -> None:
    incident = here.alert(here.lab.hosts[0].name)
    assert sorted(engine_process.points(here.home, incident, tmp_path / "points")) == sorted(BOUNDARIES)


@pytest.mark.parametrize("boundary", [*BOUNDARIES, *CALLS])
def test_one_isolation_is_in_force_after_a_kill(boundary: str, cases: dict[str, Future[Ended]]) -> None:
    case = cases[boundary].result()
    assert case.first == -signal.SIGKILL, "the first engine did not pass this boundary"
    assert not case.cut_silently, "the host was cut before the intent was durable"
    assert case.second[0] == 0, case.second[1]
    # The host: one table, confirmed, silent to the attacker, open to a new login of the responder.
    assert (case.isolation.tables, case.isolation.kinds) == (1, ("lease",))
    assert case.dark
    assert case.lets_in
    # The journal: nothing open, one proven isolation, one lease, and it ends when the kernel's ends.
    states = {key.partition("/")[2].partition("@")[0]: step.state for key, step in case.status.steps.items()}
    assert states.pop("isolate-host.tell-owner") is State.AWAITING
    assert set(states) == {"isolate-host.snapshot", ISOLATE, "isolate-host.evidence"}
    assert set(states.values()) <= {State.DONE, State.NOOP}
    assert case.proven == 1
    (lease,) = case.status.leases.values()
    assert abs((lease.until - case.at).total_seconds() - case.isolation.left_s) < 5
    # Whoever wrote an earlier intent and wakes up late is behind the host's epoch, or has nothing left to do.
    assert list(case.isolate_epochs) == sorted(set(case.isolate_epochs)), "an epoch was used twice"
    assert case.isolation.epoch == case.isolate_epochs[-1]
    assert len(case.status.alerts) == 1


def test_every_journal_verifies_after_all_that(here: Site, cases: dict[str, Future[Ended]]) -> None:
    for case in cases.values():
        case.result()
    assert here.verified() == []
    numbers = [one.number for one, _ in here.store.incidents(limit=1000)]
    assert len(numbers) == len(set(numbers)) >= len(cases)


def test_an_engine_that_was_paused_before_the_cut_and_wakes_up_after_the_release_changes_nothing(here: Site) -> None:
    host = here.lab.hosts[1]
    incident = here.alert(host.name)
    late = engine_process.start(here.home, incident, "pause", "before:isolate.sh apply")
    try:
        until(lambda: _stopped(late), 20, "the first engine stops at its intent")
        status, output = engine_process.finish(engine_process.start(here.home, incident))
        assert status == 0, output
        assert here.dark(host)
        first, second = (one.epoch for one in here.events(incident, Kind.STEP_INTENT, ISOLATE))
        assert first < second == here.isolation(host).epoch
        _release(here, host)
        events = len(here.store.events(incident))
        late.send_signal(signal.SIGCONT)
        status, output = engine_process.finish(late)
    finally:
        late.kill()
        late.communicate()
    assert status == 0, output
    assert here.isolation(host).tables == 0, "the late engine cut the host again"
    assert not here.dark(host)
    assert len(here.store.events(incident)) == events, "the late engine wrote to the journal"
    assert here.verified() == []


def test_a_host_whose_engine_died_before_the_confirmation_opens_by_itself_and_is_cut_again(
    lab: Lab, tmp_path: Path
) -> None:
    host = lab.hosts[2]
    runbook = (shipped("runbooks") / "isolate-host.yaml").read_text()
    with site(tmp_path / "home", lab, responder={"claim_stale": "1s"}) as here:
        (here.home / "runbooks").mkdir()
        shorter = runbook.replace('allow: "{{ allow }}"}', 'allow: "{{ allow }}", deadman: 5}')
        assert shorter != runbook
        (here.home / "runbooks" / "isolate-host.yaml").write_text(shorter)
        incident = here.alert(host.name)
        engine_process.finish(engine_process.start(here.home, incident, "die", "after:isolate.sh apply"))
        assert here.isolation(host).kinds == ("deadman",)
        assert here.dark(host)
        until(lambda: not here.dark(host), 10, "the kernel opens the host")
        status, output = engine_process.finish(engine_process.start(here.home, incident))
        assert status == 0, output
        first, second = here.events(incident, Kind.STEP_INTENT, ISOLATE)
        assert (first.data["seen"]["state"], second.data["seen"]["state"]) == ("absent", "expired")
        assert here.isolation(host).kinds == ("lease",)
        assert here.dark(host)
        assert here.open_intents(incident) == []


def _stopped(process: subprocess.Popen[str]) -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _release(here: Site, host: LabHost) -> None:
    """Bring the host back past the journal, under a newer epoch, as `host.release` does."""
    hands = Hands(here.lab, here.home)
    try:
        epoch = here.isolation(host).epoch
        newer = ["--epoch", str(epoch + 1), "--step", "test"]
        hands.shell.run(hands.hosts[host.name], "isolate.sh", ["undo", *newer], timeout_s=20)
        with pytest.raises(RemoteFailed, match=f"epoch {epoch} is over"):
            hands.shell.run(
                hands.hosts[host.name], "isolate.sh", ["undo", "--epoch", str(epoch), "--step", "test"], timeout_s=20
            )
    finally:
        hands.close()
