"""The sweep at the start of a responder: everything is looked at until it could be, and nothing waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

import pytest

from irflow.core.errors import ServiceMissing
from irflow.core.rotation import Result, Rotation
from irflow.core.rotations import Done, Told
from irflow.core.secret_inventory import ManagedSecret, SecretInventory
from irflow.responder.sweep import SecretSweep
from irflow.wiring.secret_journal import unnoted

WITHIN_S = 5.0


class Left:
    """Rotations of two secrets; of `cut` a crash left one half done. away: so often Vault does not answer."""

    def __init__(self, away: int = 0) -> None:
        self.away, self.asked = away, list[list[str]]()
        self.over = threading.Event()
        self.inventory = SecretInventory(
            secrets={
                name: ManagedSecret(name=name, reference=f"vault:irflow/{name}#password", target={"kind": "document"})
                for name in ("cut", "whole")
            }
        )

    def sweep(self, names: Iterable[str], told: Told) -> tuple[Done, ...]:
        self.asked.append(list(names))
        if self.away:
            self.away -= 1
            return tuple(Done(name, None, ServiceMissing("Vault is sealed"), 0.1) for name in self.asked[-1])
        self.over.set()
        results = {"cut": Result.ROTATED, "whole": Result.UNCHANGED}
        return tuple(Done(name, Rotation(results[name], 1, 2), None, 0.1) for name in self.asked[-1])

    def rotate(self, names: Iterable[str], run: str, told: Told) -> tuple[Done, ...]:
        raise AssertionError("a sweep begins nothing")

    def verify(self, names: Iterable[str]) -> tuple[Done, ...]:
        raise AssertionError("a sweep asks for nothing else")


def test_what_was_cut_off_is_finished_and_told_the_rest_is_not(caplog: pytest.LogCaptureFixture) -> None:
    left = Left()
    with caplog.at_level(logging.INFO), SecretSweep(left, lambda: None, unnoted, first_pause_s=0.01):
        assert left.over.wait(WITHIN_S)
    assert [one.getMessage() for one in caplog.records] == ["cut: a rotation that was cut off is finished: rotated"]


def test_while_vault_does_not_answer_it_is_tried_again_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    left = Left(away=3)
    with caplog.at_level(logging.WARNING), SecretSweep(left, lambda: None, unnoted, first_pause_s=0.01):
        assert left.over.wait(WITHIN_S)
    assert len(left.asked) == 4
    assert sorted(one.getMessage() for one in caplog.records) == [
        "cut: not swept: Vault is sealed", "whole: not swept: Vault is sealed",
    ]  # fmt: skip


def test_while_all_is_halted_nothing_is_touched_and_afterwards_it_is() -> None:
    left, answers = Left(), iter(["a drill", "a drill", None])
    with SecretSweep(left, lambda: next(answers), unnoted, first_pause_s=0.01):
        assert left.over.wait(WITHIN_S)
    assert len(left.asked) == 1


def test_without_secrets_there_is_no_thread() -> None:
    before = threading.active_count()
    with SecretSweep(None, lambda: None, unnoted):
        assert threading.active_count() == before


def test_it_ends_at_once_with_the_responder_while_it_waits_to_try_again() -> None:
    left = Left(away=10)
    with SecretSweep(left, lambda: None, unnoted, first_pause_s=60.0) as sweep:
        while not left.asked:
            pass
    assert not sweep._thread.is_alive()
