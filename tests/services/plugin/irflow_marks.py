"""An action of another package, for tests: it appends one line about itself to a file each time it is applied."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any, ClassVar

from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.errors import IrflowError
from irflow.core.model import Json


class MarkParams(Params):
    """folder: where. name: of the file. hold: apply ends only when NAME.go exists. fail: apply raises."""

    folder: str
    name: str
    hold: bool = False
    fail: bool = False


class Mark(Action[MarkParams]):
    """Exactly one line is right; two show that something was done twice."""

    name: ClassVar[str] = "test.mark"
    summary: ClassVar[str] = "Append a line to a file"
    Params: ClassVar[type[Any]] = MarkParams
    touches_host: ClassVar[bool] = False
    reversible: ClassVar[bool] = False
    irreversible_because: ClassVar[str] = "it is a test"

    def observe(self, params: MarkParams, context: Context) -> dict[str, Json]:
        path = Path(params.folder) / params.name
        return {"marks": len(path.read_text().splitlines()) if path.exists() else 0}

    def plan(self, params: MarkParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        return () if seen["marks"] else (Change("mark", params.model_dump()),)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        data = change.data
        if data["fail"]:
            raise IrflowError("<b>no</b> [mark](http://evil.example)")
        path = Path(data["folder"]) / data["name"]
        about = {"pid": os.getpid(), "evil": os.environ.get("EVIL"), "home": os.environ.get("IRFLOW_HOME")}
        with path.open("a") as file:
            file.write(json.dumps(about) + "\n")
        pause = threading.Event()
        while data["hold"] and not path.with_suffix(".go").exists() and context.left() > 0.1:
            pause.wait(0.02)
        return {}

    def verify(
        self, params: MarkParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        return Proof((Check("marked", self.observe(params, context)["marks"] == 1),), {})
