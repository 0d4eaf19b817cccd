"""A host whose SSH is dead is cut off by pulling its cable: by a program and by a signed web service, proved both ways.

The attacker's beacon runs on through it all, so that he is the one who sees the cut and the release.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from irflow.core.journal import Event, Kind
from irflow.core.model import Json
from irflow.core.status import State
from irflow.lab.attack import stage
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.lab.vantage import look
from irflow.wiring import load, open_store
from tests.integration.cli_site import FIRST, Desk, desk
from tests.services.irflow_site import until

pytestmark = pytest.mark.timeout(240)

ISOLATE = "containment/isolate-host.isolate@{}"

# The switch's own tool, as an administrator would write it: the cable of `web-N` is in port vN-1.
PROGRAM = """\
#!{python}
import json, subprocess, sys
request = json.load(sys.stdin)
port = "v%d" % (int(request["host"]["name"].removeprefix("web-")) - 1)
switch = ["ip", "-n", sys.argv[1], "-json", "link"]
turn = {{"isolate": "down", "release": "up"}}.get(request["verb"])
if turn and "liar" not in sys.argv:
    subprocess.run([*switch, "set", port, turn], check=True)
link = json.loads(subprocess.run([*switch, "show", port], check=True, capture_output=True).stdout)[0]
print(json.dumps({{"state": "open" if "UP" in link["flags"] and "liar" not in sys.argv else "isolated"}}))
"""

# Without the evidence, which nobody can fetch from a host without a cable.
CUT_ONLY = {
    "runbook": "isolate-host",
    "title": "Cut hosts off",
    "parameters": {"hosts": {"type": "hosts", "required": True}, "lease": {"type": "duration", "default": "8h"}},
    "steps": [
        {
            "id": "isolate", "title": "Isolate", "action": "host.isolate", "for_each": "{{ hosts }}",
            "with": {"host": "{{ item }}", "lease": "{{ lease }}"}, "approval": "incident_commander",
        }
    ],
}  # fmt: skip


@dataclass
class Cloud:
    """A web service that pulls cables, if the request is signed with its key, until a time that it answers."""

    lab: Lab
    key: str
    until: datetime | None = None
    seen: list[dict[str, Json]] = field(default_factory=list)

    def answer(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Json]]:
        try:
            request: dict[str, Any] = Webhook(self.key).verify(body, headers)
        except WebhookVerificationError:
            return 401, {"error": "who are you?"}
        self.seen.append(request)
        host = self.lab.host(request["host"]["name"])
        if request["verb"] == "isolate":
            self.until = datetime.now(UTC) + timedelta(seconds=request["payload"]["lease_s"])
            self.lab.unplug(host)
        elif request["verb"] == "release":
            self.until = None
            self.lab.plug(host)
        state = "isolated" if self.until else "open"
        return 200, {"state": state, "until": self.until and self.until.isoformat()}


@contextmanager
def serving(cloud: Cloud) -> Iterator[str]:
    """The service on loopback; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, answer = cloud.answer({name.lower(): value for name, value in self.headers.items()}, body)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/cables"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Scene:
    """Hosts with a hook each: web-1 a program, web-2 a web service, web-3 a program that lies."""

    lab: Lab
    desk: Desk
    cloud: Cloud

    def contain(self, host: LabHost) -> str:
        """The number of an incident about a host, contained as far as it goes."""
        number = self.desk.alert(host.name, severity="critical")
        self.desk.work(number, "containment")
        return number

    def events(self, number: str, kind: Kind, host: LabHost) -> list[Event]:
        with open_store(load(self.desk.home).settings) as store:
            incident = store.find_incident(number)
            assert incident is not None
            events = store.events(incident.id)
        return [one for one in events if one.kind == kind and one.step == ISOLATE.format(host.name)]

    def kill_sshd(self, host: LabHost) -> None:
        """As malware does that wants to keep the host for itself; the rest of the host runs on."""
        self.lab.exec(host, ["sh", "-c", "kill -9 $(pgrep -x sshd)"])
        until(lambda: look(self.lab, host, "responder", timeout_s=0.5).v4 == "refused", 10, "nobody listens any more")

    def dark(self, host: LabHost) -> bool:
        return look(self.lab, host, "attacker", timeout_s=0.3).dark


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("hooks")
    with Lab.up(3, folder / "lab", level=Level.ROOT) as lab:
        office = desk(folder / "home", lab)
        key = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        cloud = Cloud(lab, key)
        _private(office.home / "keys" / "cloud.hook", key, 0o600)
        program = folder / "pull-cable"
        _private(program, PROGRAM.format(python=sys.executable), 0o700)
        argv = [str(program), lab.layout.netns("net").name]
        with serving(cloud) as url:
            hooks = {
                "switch": {"hosts": ["web-1"], "command": argv},
                "cloud": {"hosts": ["web-2"], "url": url, "key": "file:keys/cloud.hook"},
                "liar": {"hosts": ["web-3"], "command": [*argv, "liar"]},
            }
            (office.home / "runbooks").mkdir()
            (office.home / "runbooks" / "isolate-host.yaml").write_text(json.dumps(CUT_ONLY))
            office.edit("irflow.yaml", lambda data: data.update(hooks=hooks))
            yield Scene(lab, office, cloud)


def _private(path: Path, text: str, mode: int) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_by_a_program_from_the_killed_sshd_to_the_proved_release(scene: Scene) -> None:
    lab, host, irflow = scene.lab, scene.lab.hosts[0], scene.desk.irflow
    with stage(lab, host) as attack:
        scene.kill_sshd(host)
        assert attack.beacon_seen_since(time.monotonic(), 5), "he still hears from his malware"
        number = scene.contain(host)
        cut_at = time.monotonic()

        (intent,) = scene.events(number, Kind.STEP_INTENT, host)
        (change,) = intent.data["changes"]
        assert change["summary"].startswith("cut web-1 off the network for 28800 s by hook switch, SSH included: ")
        (outcome,) = scene.events(number, Kind.STEP_OUTCOME, host)
        assert outcome.data["outcome"] == State.DONE, outcome.data
        assert {one["name"]: one["after"] for one in outcome.data["checks"]} == {
            "hook switch says isolated": "isolated", "the host is silent to the responder": "silent",
        }  # fmt: skip
        assert scene.dark(host)
        assert not attack.beacon_seen_since(cut_at, 1.5)

        (lease,) = irflow("leases", "list", "--json").json
        assert (lease["kind"], lease["target"], lease["state"]) == ("isolation by hook switch", "web-1", "in force")
        done = irflow("leases", "reconcile", number, "--json")
        assert (done.code, done.json[0]["finding"]) == (0, "as recorded"), done.err
        lab.plug(host)  # an administrator who does not know
        assert attack.beacon_seen_since(time.monotonic(), 5)
        done = irflow("leases", "reconcile", number, "--json")
        assert (done.code, done.json[0]["finding"], done.json[0]["done"]) == (1, "gone", "cut again")
        assert scene.dark(host)

        done = irflow("leases", "release", number, "web-1", "--yes", "--as", FIRST, "--json")
        assert done.code == 0, done.err
        checks = {one["name"]: one["passed"] for one in done.json["steps"][0]["checks"]}
        assert checks == {"hook switch says open": True, "the host answers again": True}
        assert attack.beacon_seen_since(time.monotonic(), 5)
    assert irflow("leases", "list", "--json").json == []


def test_by_a_signed_request_with_a_lease_of_its_own(scene: Scene) -> None:
    host, irflow = scene.lab.hosts[1], scene.desk.irflow
    scene.kill_sshd(host)
    key, scene.cloud.key = scene.cloud.key, "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    number = scene.contain(host)
    (outcome,) = scene.events(number, Kind.STEP_OUTCOME, host)
    assert outcome.data["outcome"] == State.FAILED
    assert 'hook cloud, status web-2: it answered 401: {"error": "who are you?"}' in outcome.data["detail"]
    assert not scene.dark(host), "a service that does not know the key cuts nothing"

    scene.cloud.key = key
    assert irflow("retry", number, "--as", FIRST).code == 0
    scene.desk.work(number, "containment")
    outcome = scene.events(number, Kind.STEP_OUTCOME, host)[-1]
    assert outcome.data["outcome"] == State.DONE, outcome.data
    assert outcome.data["facts"]["expires"] == "hook"
    assert scene.dark(host)
    assert [one["verb"] for one in scene.cloud.seen] == ["status", "isolate", "status"]
    assert scene.cloud.seen[1]["payload"] == {
        "incident": number, "step": ISOLATE.format("web-2"), "epoch": outcome.epoch, "lease_s": 28800,
    }  # fmt: skip
    (lease,) = scene.desk.status(number).leases.values()
    assert lease.until == scene.cloud.until

    done = irflow("leases", "renew", number, "web-2", "--for", "90m", "--as", FIRST, "--json")
    assert done.code == 0, done.err
    assert scene.cloud.until is not None
    assert 5300 < (scene.cloud.until - datetime.now(UTC)).total_seconds() <= 5400

    words = ("run", "release-host", "--param", "hosts=web-2", "--incident", number, "--local", "--yes", "--as", FIRST)
    done = irflow(*words)
    assert done.code == 0, done.err + done.out
    assert look(scene.lab, host, "attacker", timeout_s=0.5).v4 == "refused", "the host is back, its sshd is not"
    assert scene.desk.status(number).leases == {}


def test_a_hook_that_lies_is_caught_by_the_probe(scene: Scene) -> None:
    host = scene.lab.hosts[2]
    scene.kill_sshd(host)
    number = scene.contain(host)
    (outcome,) = scene.events(number, Kind.STEP_OUTCOME, host)
    assert outcome.data["outcome"] == State.FAILED
    assert outcome.data["detail"] == "not proved: the host is silent to the responder"
    (check,) = [one for one in outcome.data["checks"] if not one["passed"]]
    assert "port 22 refused" in check["after"]
    assert not scene.dark(host)
