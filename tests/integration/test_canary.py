"""No value that irflow holds is anywhere but where it belongs: after a whole drill, and after every kind of failure."""

from __future__ import annotations

import base64
import gzip
import io
import json
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from irflow.core.status import State, fold
from irflow.drill import run as drilling
from irflow.drill.alert import sound
from irflow.drill.estate import BYSTANDER, DATABASE, Estate
from irflow.drill.scene import Scene, raise_scene
from irflow.drill.scorecard import Scorecard
from irflow.supervisor.stack import stop_stack
from irflow.wiring import open_store
from tests.integration.drill_command import left, short_folder
from tests.services.canary import Processes, contents, hits
from tests.services.irflow_site import until

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Played:
    """A drill that was played, and then everything that can go wrong. values: all that irflow held, by name."""

    home: Path
    card: Scorecard
    values: dict[str, str]
    processes: Processes
    said: str


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    scenes: list[Scene] = []
    patch = pytest.MonkeyPatch()
    with short_folder() as tmp, Processes() as processes:

        def raised(*arguments: object, **named: object) -> Scene:
            scenes.append(raise_scene(*arguments, **named))  # type: ignore[arg-type]
            return scenes[0]

        patch.setattr(drilling, "raise_scene", raised)
        home = tmp / "home"
        try:
            card = drilling.run_drill(
                "leaked-credential", hosts=None, out=home, keep=True, sabotage=None, report=lambda line: None
            )
            (scene,) = scenes
            assert scene.stage.estate is not None
            values = _held(scene, scene.stage.estate)
            said = _go_wrong(scene, scene.stage.estate)
            values |= {f"{name} after": value for name, value in _held(scene, scene.stage.estate).items()}
            yield Played(home, card, values, processes, said)
        finally:
            patch.undo()
            for scene in scenes:
                stop_stack(scene.config.settings)
                scene.stage.lab.down()
        assert left(tmp) == []


def _held(scene: Scene, estate: Estate) -> dict[str, str]:
    """Every value there is now, with those of the beginning."""
    read = estate.vault.root().secrets.kv.v2.read_secret_version
    keys = estate.vault.home / "keys"
    return {
        **{f"leaked {name}": value for name, value in estate.first.items()},
        **{f"live {name}": estate.live(name) for name in estate.targets},
        **{
            f"admin of {name}": read(f"admin/{name}", mount_point="irflow", raise_on_deleted_version=True)["data"][
                "data"
            ]["value"]
            for name in ("postgresql", "redis")
        },
        **{f"Vault's {name}": (keys / name).read_text() for name in ("root.token", "unseal.key", "secret.id")},
        "responder's key": (scene.home / "keys/responder").read_text(),
        "webhook key": scene.installation.webhook_key,
        "journal's signing key": (scene.home / "state/signing.key").read_text(),
        "Prefect's password": (scene.home / "state/prefect.auth").read_text().strip().partition(":")[2],
    }


def _go_wrong(scene: Scene, estate: Estate) -> str:
    """Whatever can fail, fails once; what the commands said."""
    said = [_irflow(scene, "secrets", "verify"), _irflow(scene, "secrets", "rotate", "no-such-secret")]
    estate.vault.root().sys.seal()
    said += [_irflow(scene, "secrets", "rotate", BYSTANDER), _irflow(scene, "secrets", "verify")]
    estate.vault.unseal()
    estate.database.run("ALTER ROLE {} PASSWORD {}", "rotator", secret="of-somebody-else")
    (estate.cache.folder / "users.acl").unlink()
    said += [_irflow(scene, "secrets", "rotate-all", "--json")]
    said += [_irflow(scene, "secrets", "put", DATABASE, stdin="")]
    alarm = scene.attack.alarm()
    reply = sound(scene.stack.web_url, scene.installation, alarm)
    incident = reply["alerts"][0]["incident_id"]

    with open_store(scene.config.settings) as store:

        def failed() -> bool:
            return any(one.state is State.FAILED for one in fold(store.events(incident)).steps.values())

        until(failed, 60, "a rotation of an incident fails")
    return "\n".join(said)


def _irflow(scene: Scene, *arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "irflow", "--home", str(scene.home), *arguments],
        input=stdin or "", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_the_drill_passed(played: Played) -> None:
    assert played.card.failed == ()


def test_no_value_is_in_a_file_of_the_installation(played: Played) -> None:
    """But in those that are there to hold them."""
    belongs = {"keys", "lab", "state/prefect.auth", "state/signing.key"}
    files = [
        path
        for path in played.home.rglob("*")
        if path.is_file() and not any(path.is_relative_to(played.home / one) for one in belongs)
    ]
    assert {"prefect.db", "journal.db", "worker.log", "responder.log"} <= {path.name for path in files}
    assert not hits(played.values, (piece for path in files for piece in contents(path)))


def test_no_value_is_in_the_arguments_or_the_environment_of_a_process(played: Played) -> None:
    assert len(played.processes.seen) > 50
    assert not hits(played.values, played.processes.seen)


def test_no_command_says_a_value(played: Played) -> None:
    assert "sealed" in played.said
    assert not hits(played.values, iter([("what the commands said", played.said.encode())]))


SECRET = "x9/Kq+ö?canary=of this test"


def _tar() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("environ")
        member.size = len(SECRET.encode())
        archive.addfile(member, io.BytesIO(SECRET.encode()))
    return packed.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        SECRET.encode(), json.dumps({"a": SECRET}).encode(), repr([SECRET]).encode(), base64.b64encode(SECRET.encode()),
        base64.b64encode(b"user:" + SECRET.encode()), base64.urlsafe_b64encode(b"a:" + SECRET.encode() + b"more"),
        gzip.compress(_tar()), SECRET.encode().hex().encode(), b"a%20b=x9%2FKq%2B%C3%B6%3Fcanary%3Dof%20this%20test",
    ],
    ids=["plain", "json", "repr", "base64", "basic", "urlsafe", "archive", "hex", "url"],
)  # fmt: skip
def test_what_is_planted_is_found(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before " * 100 + data + b" after")
    if data[:2] == b"\x1f\x8b":
        path.write_bytes(data)
    assert hits({"canary": SECRET}, contents(path))
    assert not hits({"canary": SECRET[::-1]}, contents(path))


def test_what_is_planted_in_a_row_or_a_process_is_found(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "a.db")
    database.execute("CREATE TABLE log (line TEXT)")
    database.execute("INSERT INTO log VALUES (?)", ("y" * 3000 + SECRET + "z" * 9000,))
    database.commit()
    database.close()
    assert any("rows" in one for one in hits({"canary": SECRET}, contents(tmp_path / "a.db")))
    with Processes() as processes:
        child = subprocess.Popen(["sleep", "30"], env={"CANARY": SECRET})
        try:
            until(lambda: bool(hits({"canary": SECRET}, processes.seen)), 10, "the process is seen")
        finally:
            child.kill()
            child.wait()
