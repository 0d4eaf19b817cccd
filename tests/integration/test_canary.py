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
from typing import Any

import httpx
import pytest

from irflow.core.status import State, fold
from irflow.drill import run as drilling
from irflow.drill import scene as scenery
from irflow.drill.alert import sound
from irflow.drill.estate import BYSTANDER, DATABASE, Estate
from irflow.drill.installation import Installation, install
from irflow.drill.scene import Scene, raise_scene
from irflow.drill.scorecard import Scorecard
from irflow.supervisor.stack import stop_stack
from irflow.wiring import open_store
from tests.integration.drill_command import left, short_folder
from tests.services.canary import Processes, contents, hits
from tests.services.canary_plants import SEED, heard, in_keyring, look_after, mailbox, overhear, plant
from tests.services.irflow_site import until

pytestmark = pytest.mark.timeout(600)

HOLDERS = (
    "keys", "state/prefect.auth", "state/signing.key", "lab/fs/keys", "lab/fs/servers/vault", "lab/fs/base",
    "lab/fs/base-usr",
)  # fmt: skip


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
    overhear(patch)
    look_after(patch)
    with short_folder() as tmp, Processes() as processes, mailbox() as (box, came):
        planted: dict[str, str] = {}

        def installed(home: Path, *arguments: Any, **named: Any) -> Installation:
            made = install(home, *arguments, **named)
            planted.update(plant(home, box.server_port))
            return made

        def raised(*arguments: object, **named: object) -> Scene:
            scenes.append(raise_scene(*arguments, **named))  # type: ignore[arg-type]
            return scenes[0]

        patch.setattr(scenery, "install", installed)
        patch.setattr(drilling, "raise_scene", raised)
        home = tmp / "home"
        try:
            card = drilling.run_drill(
                "leaked-credential", hosts=None, out=home, keep=True, sabotage=None, report=lambda line: None
            )
            (scene,) = scenes
            assert scene.stage.estate is not None
            values = {**planted, **_held(scene, scene.stage.estate)}
            said = _go_wrong(scene, scene.stage.estate, planted)
            values |= {f"{name} after": value for name, value in _held(scene, scene.stage.estate).items()}
            values |= heard(scene.stage.estate.vault.home / "audit.log")
            assert came, "what was told to people went through the keyring's URL"
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
        **{
            f"Vault's {name}": (keys / name).read_text()
            for name in ("root.token", "unseal.key", "role.id", "secret.id")
        },
        **in_keyring(scene.home),
        "responder's key": (scene.home / "keys/responder").read_text(),
        "webhook key": scene.installation.webhook_key,
        "journal's signing key": (scene.home / "state/signing.key").read_text(),
        "Prefect's password": (scene.home / "state/prefect.auth").read_text().strip().partition(":")[2],
    }


def _go_wrong(scene: Scene, estate: Estate, planted: dict[str, str]) -> str:
    """Whatever can fail, fails once; what the commands said."""
    said = [_irflow(scene, "doctor"), _without_its_key(scene), *_alertmanager(scene, planted)]
    said += [_irflow(scene, "secrets", "verify"), _irflow(scene, "secrets", "rotate", "no-such-secret")]
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


def _alertmanager(scene: Scene, planted: dict[str, str]) -> list[str]:
    """What web answers to a token that is right, with an alert that is none, and to one that is nearly right."""
    token = planted["alertmanager.token"]
    url = f"{scene.stack.web_url}/webhooks/alertmanager"
    return [
        httpx.post(url, content=b'{"alerts": 1}', headers={"Authorization": f"Bearer {one}"}, trust_env=False).text
        for one in (token, token[:-1])
    ]


def _without_its_key(scene: Scene) -> str:
    """A rotation in a keyring whose master key is another one."""
    key = scene.home / "keys" / "keyring.key"
    before = key.read_text()
    key.write_text(before[::-1])
    try:
        return _irflow(scene, "secrets", "rotate", SEED)
    finally:
        key.write_text(before)


def _irflow(scene: Scene, *arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "irflow", "--home", str(scene.home), *arguments],
        input=stdin or "", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


def _belongs(path: Path) -> bool:
    """Whether a file of the installation is there to hold values, or is of the distribution that all hosts share."""
    return any(path.is_relative_to(one) for one in HOLDERS)


def test_values_of_every_kind_were_there_to_be_leaked(played: Played) -> None:
    kinds = {name.partition(" ")[0] for name in played.values if " in Vault" in name}
    assert kinds >= {"value", "new", "client_token", "secret_id", "role_id"}, "an old one was a live one before"
    assert {"keyring's seed", "keyring's mail", "keyring's keyring-seed#irflow after", "backup.password"} <= {
        *played.values
    }


def test_the_drill_passed(played: Played) -> None:
    assert played.card.failed == ()


def test_no_value_is_in_a_file_of_the_installation(played: Played) -> None:
    """But in those that are there to hold them. The lab's servers and hosts are searched as well."""
    files = [path for path in played.home.rglob("*") if path.is_file() and not _belongs(path.relative_to(played.home))]
    assert {"prefect.db", "journal.db", "worker.log", "responder.log"} <= {path.name for path in files}
    found = hits(played.values, (piece for path in files for piece in contents(path)))
    assert not found, "\n".join(found)


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
