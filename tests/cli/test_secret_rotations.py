"""`irflow secrets` on secrets in a keyring: what the journal has of them, and what is said when it goes wrong."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from irflow.adapters.keyring.encrypted_file import EncryptedFileKeyring
from irflow.core import rotations
from irflow.core.incident import SYSTEM
from irflow.core.journal import Event, Kind
from irflow.core.rotation import Result, Rotation
from irflow.core.rotations import Done
from irflow.core.secret import SecretValue
from irflow.core.secret_inventory import ManagedSecret, SecretInventory
from irflow.drill.installation import free_port
from irflow.wiring import load, open_store
from tests.cli.conftest import Irflow

KEY = "k" * 44


@pytest.fixture
def ready(home: Path, irflow: Irflow) -> Path:
    """Two secrets in irflow's keyring."""
    assert irflow("init").code == 0
    (home / "irflow.yaml").write_text("keyring: {backend: encrypted-file}\n")
    (home / "keys" / "keyring.key").write_text(KEY)
    (home / "keys" / "keyring.key").chmod(0o600)
    ring = EncryptedFileKeyring(home / "keys" / "keyring", lambda: SecretValue(KEY.encode()))
    for name in ("mail", "seed"):
        ring.set_password("irflow", name, f"stolen-{name}")
    found = {name: {"reference": f"keyring:irflow/{name}", "target": {"kind": "document"}} for name in ("mail", "seed")}
    (home / "secrets.yaml").write_text(json.dumps({"secrets": found}))
    return home


def changes(home: Path) -> list[Event]:
    with open_store(load(home).settings) as store:
        return [one for one in store.events(SYSTEM) if one.kind == Kind.SECRET_CHANGED]


def test_the_journal_has_each_transition_with_its_version_who_ordered_it_and_no_value(
    ready: Path, irflow: Irflow
) -> None:
    done = irflow("secrets", "rotate-all", "--json")
    assert done.code == 0, done.err
    assert irflow("secrets", "rotate", "mail").code == 0
    assert irflow("secrets", "verify").code == 0
    found = changes(ready)
    assert sorted((one.data["name"], one.data["transition"], one.data["version"]) for one in found) == [
        ("mail", "promoted", 1), ("mail", "promoted", 2), ("seed", "promoted", 1),
    ]  # fmt: skip
    (who,) = {one.actor for one in found}
    assert who.startswith("operator:")
    assert irflow("journal", "verify").code == 0


def test_what_a_sweep_finishes_is_in_the_journal_too(ready: Path, irflow: Irflow) -> None:
    copy = ready / "keys" / "mail.copy"
    secrets = json.loads((ready / "secrets.yaml").read_text())
    secrets["secrets"]["mail"]["copies"] = [f"file:{copy}/not-there"]
    (ready / "secrets.yaml").write_text(json.dumps(secrets))
    assert irflow("secrets", "rotate", "mail").code == 1
    copy.mkdir()
    assert irflow("secrets", "sweep").code == 0
    assert [one.data["transition"] for one in changes(ready)] == ["promoted", "cleared"]


def test_a_journal_that_cannot_be_reached_is_a_warning_and_the_secrets_are_replaced(
    ready: Path, irflow: Irflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRFLOW_DATABASE_URL", f"postgresql+psycopg://irflow@127.0.0.1:{free_port()}/irflow")
    done = irflow("secrets", "rotate-all", "--json")
    assert done.code == 0, done.err
    assert {one["result"] for one in done.json} == {"rotated"}
    assert done.err.count("the journal does not have all of this") == 1


@pytest.mark.parametrize(("given", "said"), [(b"\xff\xfe", "the value is not UTF-8"), (b"\n", "the value is empty")])
def test_what_is_no_text_is_not_put_anywhere(
    ready: Path, irflow: Irflow, monkeypatch: pytest.MonkeyPatch, given: bytes, said: str
) -> None:
    before = (ready / "keys" / "keyring").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    done = irflow("secrets", "put", "mail")
    assert done.code == 2
    assert said in done.err
    assert (ready / "keys" / "keyring").read_bytes() == before


def test_a_list_says_of_each_secret_why_it_cannot_be_read(ready: Path, irflow: Irflow) -> None:
    assert {one["error"] for one in irflow("secrets", "list", "--json").json} == {None}
    (ready / "keys" / "keyring.key").unlink()
    found = irflow("secrets", "list", "--json")
    assert found.code == 0
    assert [one["name"] for one in found.json] == ["mail", "seed"]
    assert all("the secret cannot be read" in one["error"] for one in found.json)


def test_after_ctrl_c_the_last_line_says_how_many_are_done_and_how_to_go_on(
    ready: Path, irflow: Irflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(
        inventory: SecretInventory, names: Iterable[str], work: Callable[[ManagedSecret], Rotation], *,
        report: Callable[[Done], object], parallel: int,
    ) -> tuple[Done, ...]:  # fmt: skip
        report(Done("mail", Rotation(Result.ROTATED, 1, 2), None, 0.1))
        raise KeyboardInterrupt

    monkeypatch.setattr(rotations, "each", cut_off)
    done = irflow("secrets", "rotate-all", "--run", "one")
    assert done.code == 130
    assert done.err.splitlines()[-1] == "stopped: 1 of 2 done; --run one goes on with the rest"


@pytest.mark.parametrize("run", ["two\nlines", "two words", "x" * 201])
def test_the_id_of_a_run_is_one_word(ready: Path, irflow: Irflow, run: str) -> None:
    done = irflow("secrets", "rotate-all", "--run", run)
    assert done.code == 2
    assert "not the id of a run" in done.err
    assert changes(ready) == []


def test_a_plan_for_nothing_says_so(ready: Path, irflow: Irflow) -> None:
    assert irflow("secrets", "rotate-all").code == 0
    assert irflow("secrets", "plan", "--exposed-since", "1h").out == "no secret was exposed\n"
    assert irflow("secrets", "plan", "--exposed-since", "1h", "--json").json == []


def test_two_secrets_in_one_place_are_told_by_check_at_their_line(ready: Path, irflow: Irflow) -> None:
    (ready / "secrets.yaml").write_text(
        "secrets:\n  mail: {reference: keyring:irflow/mail, target: {kind: document}}\n"
        "  again: {reference: keyring:irflow/mail, target: {kind: document}}\n"
    )
    done = irflow("check")
    assert done.code == 6
    assert f"{ready}/secrets.yaml:3: 'mail' is in the same document" in done.err
    assert "Give each secret a document of its own" in done.err
