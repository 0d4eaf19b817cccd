"""No value of a secret is told by a process, whoever logs it and however it ends: real processes, a real Prefect."""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services.prefect import PrefectSite, until

pytestmark = pytest.mark.timeout(180)

FLOW = Path(__file__).parents[1] / "services" / "telling_flow.py"

BEGIN = """
import asyncio, logging, os, sys, threading, time, warnings
early = logging.getLogger("early")
early.addHandler(logging.StreamHandler())
from irflow import redaction
from irflow.core.secret import SecretValue
redaction.install()
secret = SecretValue(open(sys.argv[1], "rb").read())
value = secret.reveal().decode()
"""


@pytest.fixture
def value(tmp_path: Path) -> Path:
    path = tmp_path / "value"
    path.write_text(f"canary-{secrets.token_urlsafe(24)}")
    return path


def shapes(value: Path) -> list[bytes]:
    """As it is, and from the middle of its base64, however it is aligned."""
    raw = value.read_bytes()
    return [raw, *(base64.b64encode(b"x" * before + raw)[4:-4] for before in range(3))]


def said(script: str, value: Path, status: int = 0) -> str:
    """What a process says that runs a script. Fails if it tells the value."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + script, str(value)], capture_output=True, timeout=60, check=False
    )
    text = done.stdout + done.stderr
    assert done.returncode == status, text.decode()
    assert [one for one in shapes(value) if one in text] == []
    assert b"***" in text
    return text.decode()


def test_loggers_configured_before_and_after_say_no_value(value: Path) -> None:
    text = said(
        """
early.warning("early %s", value)
logging.basicConfig(level=logging.DEBUG, format="%(name)s %(message)s %(extra)s")
more = {"extra": {"password": [value]}}
logging.getLogger("late").info("late %r", {"p": value}, extra=more)
logging.getLogger("urllib3").debug("Basic %s", __import__("base64").b64encode(b"u:" + secret.reveal()).decode(),
    extra=more)
logging.getLogger("broken").info("%d", value, extra=more)
logging.getLogger("object").error(ValueError(value), extra=more)
logging.getLogger("stack").error("with %(it)s", {"it": value}, stack_info=True, extra=more)
""",
        value,
    )
    for name in ("early ***", "late {'p': '***'}", "urllib3 Basic ***", "broken", "object ***", "stack with ***"):
        assert name in text


def test_handlers_that_format_exceptions_themselves_say_no_value(value: Path) -> None:
    text = said(
        """
from rich.logging import RichHandler
from prefect.logging.formatters import JsonFormatter
from prefect.logging.handlers import PrefectConsoleHandler
log = logging.getLogger("all")
json = logging.StreamHandler()
json.setFormatter(JsonFormatter("default", "", "%"))
for handler in (json, PrefectConsoleHandler(), RichHandler(rich_tracebacks=True, tracebacks_show_locals=True)):
    log.addHandler(handler)
class Telling(Exception):
    pass
try:
    try:
        raise Telling("first", secret.reveal())
    except Telling as error:
        raise KeyError({"second": value}) from error
except KeyError:
    log.exception("it failed")
""",
        value,
    )
    assert text.count("it failed") == 3
    assert "Telling" in text
    assert "KeyError" in text


@pytest.mark.parametrize(("script", "status", "words"), [
    ("raise RuntimeError(value) from ValueError(value)", 1, "RuntimeError: ***"),
    ("threading.Thread(target=lambda: 1 / len(dict([(value, 0)])[value + 'x'])).start()", 0, "KeyError: '***x'"),
    ("async def main():\\n  asyncio.create_task(no())\\n  await asyncio.sleep(.1)\\n  import gc; gc.collect()\\n"
     "async def no(): raise RuntimeError(value)\\nasyncio.run(main())", 0, "RuntimeError: ***"),
    ("warnings.warn(f'not {value}')", 0, "UserWarning: not ***"),
    ("class D:\\n  def __del__(self): raise RuntimeError(value)\\nD()", 0, "RuntimeError: ***"),
    ("h = logging.StreamHandler(); h.format = lambda r: 1 / {}[value]; early.addHandler(h); early.error('x')", 0,
     "Logging error"),
], ids=["program", "thread", "asyncio", "warning", "destructor", "handler"])  # fmt: skip
def test_what_nobody_catches_says_no_value(value: Path, script: str, status: int, words: str) -> None:
    assert words in said(script.replace("\\n", "\n"), value, status)


def test_a_forked_child_says_no_value_of_its_own_nor_of_its_parent(value: Path) -> None:
    text = said(
        """
stop = threading.Event()
def busy():
    while not stop.is_set():
        SecretValue(os.urandom(24))
thread = threading.Thread(target=busy)
thread.start()
for number in range(10):
    pid = os.fork()
    if not pid:
        own = SecretValue(b"own-" + secret.reveal()[::-1])
        early.error("child %s %s", value, own.reveal().decode())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
thread.join()
""",
        value,
    )
    assert text.count("child *** ***") == 10


def test_the_command_line_says_no_value_when_it_breaks(value: Path) -> None:
    text = said(
        """
from irflow.cli import main, output
def broken(**_):
    early.error("from the command %s", value)
    output.say(f"said {value}")
    output.dump({"dumped": [value]})
    output.table("", ("column",), [[value]])
    raise RuntimeError(value)
main.app = broken
main.main()
""",
        value,
        1,
    )
    for words in ("said ***", '"***"', "RuntimeError: ***", "column", "this is a defect of irflow", "command ***"):
        assert words in text


def test_a_flow_leaves_no_value_in_anything_that_prefect_keeps(prefect_site: PrefectSite, value: Path) -> None:
    settings = prefect_site.settings
    environment = {
        **os.environ,
        "PREFECT_API_URL": settings.prefect_api,
        "PREFECT_API_AUTH_STRING": settings.prefect_auth_file.read_text().strip(),
    }
    done = subprocess.run(
        [sys.executable, "-P", str(FLOW), str(value)],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.decode().strip().endswith("FAILED"), done.stderr.decode()

    def logs() -> list[str]:
        found = prefect_site.http.post("/logs/filter", json={"sort": "TIMESTAMP_DESC"}).raise_for_status().json()
        return [one["message"] for one in found]

    def task_states() -> list[str]:
        found = prefect_site.http.post("/task_runs/filter", json={"sort": "ID_DESC"}).raise_for_status().json()
        return [one["state"]["message"] or "" for one in found if one["name"].startswith("telling")]

    until("the logs", lambda: any("in the task" in one for one in logs()))
    until("the task's end", lambda: any("ValueError" in one for one in task_states()))
    files = [path for path in settings.prefect_home.rglob("*") if path.is_file()]
    assert any(path.name.startswith("prefect.db") for path in files)
    hits = [path.name for path in files for one in shapes(value) if one in path.read_bytes()]
    hits += ["output" for one in shapes(value) if one in done.stdout + done.stderr]
    assert hits == []
    assert any("the login is user:***" in one for one in logs())
    assert any("***" in one for one in task_states())
