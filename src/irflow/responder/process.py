"""The responder process: wired up, ended by a signal."""

from __future__ import annotations

import logging
import signal
from types import FrameType

from irflow.responder.loop import Responder
from irflow.responder.sweep import SecretSweep
from irflow.wiring import Configuration, flow_starter, notification_channel, open_runtime, work_told
from irflow.wiring.secret_journal import SecretJournal

log = logging.getLogger(__name__)


def run_responder(config: Configuration) -> None:
    """Work until SIGTERM or SIGINT; what runs then is finished first."""
    with open_runtime(config, process="responder") as wired:
        settings = wired.settings
        responder = Responder(
            wired.engine, settings, starter=flow_starter(settings), channel=notification_channel(settings)
        )  # fmt: skip

        def stop(_number: int, _frame: FrameType | None) -> None:
            responder.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        noted = SecretJournal(wired.store, "irflow:responder", log.warning).told
        with work_told(settings), SecretSweep(wired.engine.ports.rotations, wired.store.halted, noted):
            responder.run()
