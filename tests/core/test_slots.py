"""Slots: all hosts are cut before the first is confirmed, and evidence stands back meanwhile."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from irflow.core.slots import CONFIRM_AFTER_S, STAND_BACK_S, Rank, Slots


class Hand:
    """A clock moved by hand."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def queue(slots: Slots, ranks: list[tuple[str, Rank]], waiting: int) -> tuple[list[str], threading.Event]:
    """Fill the only slot, let the others queue up in order, then let go. Returns the order in which they got it."""
    order: list[str] = []
    go, held = threading.Event(), threading.Event()

    def first() -> None:
        with slots.hold(Rank.CUT):
            held.set()
            assert go.wait(10)

    def work(name: str, rank: Rank) -> None:
        with slots.hold(rank):
            order.append(name)

    pool = ThreadPoolExecutor(8)
    pool.submit(first)
    assert held.wait(10)
    for count, (name, rank) in enumerate(ranks, 1):
        pool.submit(work, name, rank)
        while slots.waiting < count:
            threading.Event().wait(0.001)
    assert slots.waiting == waiting
    go.set()
    pool.shutdown()
    return order, go


def test_cuts_come_before_confirmations_and_both_before_the_rest() -> None:
    mixed = [("evidence", Rank.OTHER), ("confirm 1", Rank.CONFIRM), ("cut 2", Rank.CUT), ("cut 3", Rank.CUT)]
    assert queue(Slots(1, Hand()), mixed, 4)[0] == ["cut 2", "cut 3", "confirm 1", "evidence"]


def test_a_confirmation_that_waited_long_goes_before_new_cuts() -> None:
    clock = Hand()
    slots = Slots(1, clock)
    go, held = threading.Event(), threading.Event()
    order: list[str] = []

    def first() -> None:
        with slots.hold(Rank.CUT):
            held.set()
            assert go.wait(10)

    def work(name: str, rank: Rank) -> None:
        with slots.hold(rank):
            order.append(name)

    with ThreadPoolExecutor(4) as pool:
        pool.submit(first)
        assert held.wait(10)
        pool.submit(work, "old confirm", Rank.CONFIRM)
        while not slots.waiting:
            threading.Event().wait(0.001)
        clock.seconds += CONFIRM_AFTER_S + 1
        pool.submit(work, "new cut", Rank.CUT)
        while slots.waiting < 2:
            threading.Event().wait(0.001)
        go.set()
    assert order == ["old confirm", "new cut"]


def test_evidence_waits_for_a_cut_elsewhere_but_not_for_ever() -> None:
    clock = Hand()
    slots = Slots(8, clock)
    began = threading.Event()

    def evidence() -> None:
        with slots.hold(Rank.OTHER):
            began.set()

    with ThreadPoolExecutor(1) as pool, slots.hold(Rank.CUT):
        pool.submit(evidence)
        assert not began.wait(0.2)
        clock.seconds += STAND_BACK_S + 1
        assert began.wait(10)


def test_long_work_everywhere_leaves_a_slot_for_a_cut() -> None:
    slots = Slots(4, Hand())
    begun, go = threading.Semaphore(0), threading.Event()

    def backup() -> None:
        with slots.hold(Rank.OTHER):
            begun.release()
            assert go.wait(10)

    with ThreadPoolExecutor(5) as pool:
        for _ in range(4):
            pool.submit(backup)
        for _ in range(3):
            assert begun.acquire(timeout=10)
        while not slots.waiting:
            threading.Event().wait(0.001)
        try:
            with slots.hold(Rank.CUT):
                assert slots.waiting == 1
        finally:
            go.set()


def test_never_more_than_the_given_number_at_once() -> None:
    slots = Slots(3, Hand())
    lock = threading.Lock()
    now = most = 0

    def work(_: int) -> None:
        nonlocal now, most
        with slots.hold(Rank.CUT):
            with lock:
                now += 1
                most = max(most, now)
            threading.Event().wait(0.002)
            with lock:
                now -= 1

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(work, range(60)))
    assert most == 3
