"""Many secrets replaced in one go: each after those it waits for, side by side where none waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from irflow.core.errors import IrflowError
from irflow.core.rotation import Result, Rotation
from irflow.core.secret_inventory import ManagedSecret, SecretInventory

log = logging.getLogger(__name__)

PARALLEL = 8
"""Vault answers no faster with more (measured: KV 225 full cycles a second with 16 threads, 112 with one)."""


@dataclass(frozen=True)
class Done:
    """What came of one secret. rotation: None when it failed or was not tried; error says why."""

    name: str
    rotation: Rotation | None
    error: IrflowError | None
    seconds: float

    @property
    def result(self) -> str:
        """In a word or two."""
        return str(self.rotation.result) if self.rotation else "failed" if self.seconds else "not tried"

    @property
    def good(self) -> bool:
        """Whether the value from before is dead, or was not touched on purpose."""
        return self.rotation is not None and self.rotation.result in (Result.ROTATED, Result.UNCHANGED)


class Rotates(Protocol):
    """What replaces one secret: core.rotation.Rotator, or core.engine_rotation.EngineRotator."""

    @property
    def overlap(self) -> bool:
        """Whether nobody is refused meanwhile."""
        ...

    @property
    def meanwhile(self) -> str:
        """What its users meet while it is replaced, in a few words."""
        ...

    def rotate(self, run: str) -> Rotation:
        """Replace it and prove the old one dead. The same run never twice."""
        ...

    def sweep(self) -> Rotation:
        """Finish what a crash left."""
        ...

    def verify(self) -> Rotation:
        """Prove that what is live works and that nothing is half done. Raises CheckFailed."""
        ...

    def changed(self) -> datetime | None:
        """When what is live was made; None where nobody noted it."""
        ...


Told = Callable[[str, str, int], object]
"""Told the name of a secret, the transition, and the version of its document. May raise: that secret fails then."""


class Rotations(Protocol):
    """The secrets of secrets.yaml, ready to be replaced."""

    inventory: SecretInventory

    def rotate(self, names: Iterable[str], run: str, told: Told) -> tuple[Done, ...]:
        """Replace each, in the inventory's order; the same run never twice."""
        ...

    def sweep(self, names: Iterable[str], told: Told) -> tuple[Done, ...]:
        """Finish of each what a crash left; begins nothing."""
        ...

    def verify(self, names: Iterable[str]) -> tuple[Done, ...]:
        """See of each that its live value gets in and that nothing is half done."""
        ...


def each(
    inventory: SecretInventory,
    names: Iterable[str],
    work: Callable[[ManagedSecret], Rotation],
    *,
    report: Callable[[Done], object] = lambda done: None,
    parallel: int = PARALLEL,
) -> tuple[Done, ...]:
    """Do the work for each, in the inventory's order. What waits for one that failed is not tried.

    report: told of each as it ends, in this thread. Only what ends this thread itself, such as Ctrl-C, ends it all:
    what has begun is finished and reported first, nothing else begins.
    """
    sorter = inventory.graph(names)
    ended: dict[str, Done] = {}
    running: list[Future[Done]] = []

    def over(done: Done) -> None:
        ended[done.name] = done
        sorter.done(done.name)
        report(done)

    with ThreadPoolExecutor(parallel, "rotation") as pool:
        try:
            while sorter.is_active():
                for name in sorter.get_ready():
                    one = inventory.secrets[name]
                    missing = [other for other in one.after if other in ended and not ended[other].good]
                    if missing:
                        over(_waiting(one, missing))
                    else:
                        running.append(pool.submit(_timed, one, work))
                if running:
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        running.remove(future)
                        over(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for future in wait([one for one in running if not one.cancelled()]).done:
                over(future.result())
            raise
    return tuple(ended[name] for name in sorted(ended))


def _waiting(one: ManagedSecret, missing: Iterable[str]) -> Done:
    why = IrflowError(f"waits for {', '.join(missing)}", where=one.name, hint="Mend those first")
    return Done(one.name, None, why, 0.0)


def _timed(one: ManagedSecret, work: Callable[[ManagedSecret], Rotation]) -> Done:
    started = time.monotonic()
    why: IrflowError
    try:
        return Done(one.name, work(one), None, time.monotonic() - started)
    except IrflowError as error:
        why = error
    except Exception as error:  # a defect with one secret must not keep the others from being replaced
        log.exception("%s: a defect of irflow", one.name)
        said = f"a defect of irflow ({type(error).__name__})"
        why = IrflowError(said, where=one.name, hint="The log says where, with the lines of the program")
    return Done(one.name, None, why, max(time.monotonic() - started, 0.001))
