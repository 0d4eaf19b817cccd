"""The responder is woken wherever its home is, and nobody is kept up by one that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from irflow.adapters.wake import LONGEST, WakeSocket, listening, wake


@pytest.mark.parametrize("depth", [0, 12], ids=["a short path", "a path too long for a socket"])
def test_who_waits_is_woken(depth: int, tmp_path: Path) -> None:
    path = tmp_path.joinpath(*["deep-folder"] * depth, "run", "responder.sock")
    assert (len(str(path)) > LONGEST) is bool(depth)
    assert not listening(path)
    wake(path)
    waiting = WakeSocket(path)
    assert listening(path)
    assert not waiting.wait(0)
    wake(path)
    wake(path)
    assert waiting.wait(5)
    assert not waiting.wait(0), "many wake-ups are one"
    waiting.close()
    assert not listening(path) and not path.exists()


def test_a_socket_left_by_a_dead_responder_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "responder.sock"
    first = WakeSocket(path)
    second = WakeSocket(path)
    wake(path)
    assert second.wait(5) and not first.wait(0)
    first.close()
    second.close()
