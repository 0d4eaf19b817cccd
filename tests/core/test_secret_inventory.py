"""In which order secrets are replaced, and what happens to those that wait for one that failed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from irflow.core import rotations
from irflow.core.errors import ConfigurationError, IrflowError, UsageError
from irflow.core.rotation import Result, Rotation
from irflow.core.rotations import Done, each
from irflow.core.secret_inventory import ManagedSecret, SecretInventory

ROTATED = Rotation(Result.ROTATED, 1, 4)


def inventory(**secrets: dict[str, Any]) -> SecretInventory:
    made = {
        name: ManagedSecret(name=name, reference=f"vault:kv/{name}#password", target={"kind": "postgresql"}, **more)
        for name, more in secrets.items()
    }
    return SecretInventory(secrets=made)


def test_what_waits_for_nothing_goes_at_once_and_the_rest_in_its_order() -> None:
    found = inventory(app={"after": ("db",)}, db={}, cache={})
    assert found.order(found.secrets) == (("cache", "db"), ("app",))


def test_irflows_own_come_last_whatever_they_are_called() -> None:
    found = inventory(admin={"own": True}, db={}, zz={"after": ("db",)}, root={"own": True, "after": ("admin",)})
    assert found.order(found.secrets) == (("db",), ("zz",), ("admin",), ("root",))


def test_of_what_is_not_chosen_nobody_waits() -> None:
    found = inventory(app={"after": ("db",)}, db={})
    assert found.order(["app"]) == (("app",),)


def test_a_circle_is_named() -> None:
    found = inventory(a={"after": ("b",)}, b={"after": ("a",)})
    with pytest.raises(ConfigurationError, match=r"a -> b|b -> a"):
        found.order(found.secrets)


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(UsageError, match="There are db"):
        inventory(db={}).get("dv")


@pytest.mark.parametrize("reference", ["file:keys/x", "kv/db", "vault:kv/db"])
def test_only_what_irflow_can_replace_can_be_looked_after(reference: str) -> None:
    with pytest.raises(ValueError, match="vault:"):
        ManagedSecret(name="db", reference=reference, target={"kind": "postgresql"})


def test_those_that_need_not_wait_are_worked_on_side_by_side() -> None:
    both = threading.Barrier(2, timeout=10)

    def work(one: ManagedSecret) -> Rotation:
        both.wait()
        return ROTATED

    ended = each(inventory(a={}, b={}), ["a", "b"], work)
    assert [(one.name, one.result, one.good) for one in ended] == [("a", "rotated", True), ("b", "rotated", True)]


def test_what_waits_for_a_failed_one_is_not_tried_and_the_rest_is() -> None:
    tried: list[str] = []
    told: list[Done] = []

    def work(one: ManagedSecret) -> Rotation:
        tried.append(one.name)
        if one.name == "db":
            raise IrflowError("it is down", where="db")
        return ROTATED

    found = inventory(app={"after": ("db",)}, web={"after": ("app",)}, db={}, cache={})
    ended = {one.name: one for one in each(found, found.secrets, work, report=told.append)}
    assert sorted(tried) == ["cache", "db"]
    assert {name: one.result for name, one in ended.items()} == {
        "app": "not tried", "web": "not tried", "db": "failed", "cache": "rotated",
    }  # fmt: skip
    assert str(ended["web"].error) == "web: waits for app. Mend those first"
    assert sorted(one.name for one in told) == ["app", "cache", "db", "web"]


def test_a_value_that_had_to_be_put_back_is_not_good() -> None:
    (done,) = each(inventory(db={}), ["db"], lambda one: Rotation(Result.ROLLED_BACK, 1, 4))
    assert not done.good
    assert done.result == "rolled back"


def test_a_defect_with_one_keeps_no_other_from_being_replaced_and_the_log_has_where(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def work(one: ManagedSecret) -> Rotation:
        if one.name == "db":
            raise ZeroDivisionError("a slip")
        return ROTATED

    ended = {one.name: one for one in each(inventory(db={}, cache={}), ["db", "cache"], work)}
    assert ended["cache"].good
    assert ended["db"].result == "failed"
    assert "a defect of irflow (ZeroDivisionError)" in str(ended["db"].error)
    assert "a slip" in caplog.text
    assert "test_secret_inventory.py" in caplog.text


def test_after_ctrl_c_what_has_begun_is_finished_and_reported_and_nothing_else_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped, begun, told = threading.Event(), list[str](), list[str]()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            stopped.set()
            super().shutdown(wait=wait)

    def work(one: ManagedSecret) -> Rotation:
        begun.append(one.name)
        assert one.name == "a" or stopped.wait(10)
        return ROTATED

    def report(done: Done) -> None:
        told.append(done.name)
        if done.name == "a":
            raise KeyboardInterrupt

    monkeypatch.setattr(rotations, "ThreadPoolExecutor", Pool)
    found = inventory(**{name: {} for name in "abcdefgh"})
    with pytest.raises(KeyboardInterrupt):
        each(found, found.secrets, work, report=report, parallel=2)
    assert len(begun) <= 3, "at most one more has begun since the first ended"
    assert sorted(told) == sorted(begun)
