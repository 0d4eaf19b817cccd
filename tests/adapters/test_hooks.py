"""Hooks: the right one is found, asked once, bounded in time and size, and every way to fail has a clear message."""

from __future__ import annotations

import base64
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook

from irflow.adapters.catalog import load_settings
from irflow.adapters.hooks import ConfiguredHooks, strangers
from irflow.adapters.secret_files import FileSecrets
from irflow.config import HookSettings
from irflow.core.errors import (
    ConfigurationError,
    ConfigurationErrors,
    DeadlineExceeded,
    HookFailed,
    IrflowError,
    ServiceMissing,
)
from irflow.core.inventory import Inventory
from irflow.core.ports import NoHooks
from tests.fakes.world import host

WEB = host("web-1", groups=("web", "all"))


def program(folder: Path, script: str) -> str:
    path = folder / f"hook-{secrets.token_hex(4)}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return str(path)


def by_program(folder: Path, script: str, *args: str, **more: Any) -> ConfiguredHooks:
    settings = HookSettings(groups=("web",), command=(program(folder, script), *args), **more)
    return ConfiguredHooks({"switch": settings}, FileSecrets())


def status(hooks: ConfiguredHooks, *, timeout_s: float = 10.0) -> dict[str, Any]:
    return hooks.call(WEB, "status", {"incident": "IR-2026-0001"}, timeout_s=timeout_s)


# ---------------------------------------------------------------- which one


def hook(*verbs: str, **more: Any) -> HookSettings:
    return HookSettings(verbs=verbs or ("isolate", "release", "status"), command=("/bin/true",), **more)


def test_a_hook_that_names_the_host_goes_before_one_of_its_groups_and_only_for_its_verbs() -> None:
    hooks = ConfiguredHooks(
        {
            "sessions": hook("revoke_sessions", groups=("web",)),
            "switch": hook(groups=("web",)),
            "cloud": hook(hosts=("web-1",)),
        },
        FileSecrets(),
    )
    assert [getattr(hooks.find(WEB, verb), "name", None) for verb in ("isolate", "revoke_sessions", "reboot")] == [
        "cloud", "sessions", None,
    ]  # fmt: skip
    assert getattr(hooks.find(host("web-2", groups=("web",)), "isolate"), "name", None) == "switch"
    assert hooks.find(host("db-1"), "isolate") is None


def test_without_a_hook_the_error_says_where_to_name_one() -> None:
    assert NoHooks().find(WEB, "isolate") is None
    with pytest.raises(ConfigurationError, match=r"web-1: there is no hook for isolate.*irflow.yaml"):
        NoHooks().call(WEB, "isolate", {}, timeout_s=1)
    hooks = ConfiguredHooks({"switch": hook(groups=("web",))}, FileSecrets())
    with pytest.raises(ConfigurationError, match=r"no hook gone for isolate.*irflow.yaml has switch"):
        hooks.call(WEB, "isolate", {}, timeout_s=1, hook="gone")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"groups": ["web"]}, "either a command or a url"),
        ({"groups": ["web"], "command": ["/bin/true"], "url": "https://x.example"}, "either a command or a url"),
        ({"command": ["/bin/true"]}, "for nobody"),
        ({"groups": ["web"], "command": ["cut"]}, "absolute"),
        ({"groups": ["web"], "url": "http://x.example", "key": "file:/k"}, "HTTPS"),
        ({"groups": ["web"], "url": "https://me:pw@x.example", "key": "file:/k"}, "no password"),
        ({"groups": ["web"], "url": "https://x.example"}, "signs requests"),
        ({"groups": ["web"], "url": "https://x.example", "key": "whsec_abc"}, "not a secret reference"),
        ({"groups": ["web"], "command": ["/bin/true"], "verbs": ["isolate"]}, "go together"),
    ],
)
def test_a_hook_that_could_not_work_is_refused_when_it_is_read(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        HookSettings.model_validate(settings)


def test_mistakes_in_the_file_have_their_line_and_paths_start_at_home(tmp_path: Path) -> None:
    file = tmp_path / "irflow.yaml"
    file.write_text("hooks:\n  switch:\n    groups: [web]\n    command: [cut]\n")
    with pytest.raises(ConfigurationErrors, match=r"irflow\.yaml:2: .*absolute"):
        load_settings(tmp_path)
    file.write_text("hooks:\n  cloud: {groups: [web], url: 'https://x.example/', key: 'file:keys/cloud', ca: ca.pem}\n")
    read = load_settings(tmp_path).hooks["cloud"]
    assert (read.key, read.ca) == (f"file:{tmp_path}/keys/cloud", tmp_path / "ca.pem")


def test_a_host_or_group_that_nobody_knows_is_told_before_the_hook_is_needed() -> None:
    known = Inventory(hosts={"web-1": WEB})
    hooks = {"switch": hook(hosts=("web-1", "wbe-1"), groups=("web", "database"))}
    assert [error.message for error in strangers(hooks, known)] == [
        "hook switch: 'wbe-1' is neither a host nor a group of the inventory",
        "hook switch: 'database' is neither a host nor a group of the inventory",
    ]


# ---------------------------------------------------------------- programs


def test_a_program_gets_the_request_on_its_input_fixed_arguments_and_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRFLOW_DATABASE_URL", "canary")
    script = (
        """names=$(env | cut -d= -f1 | sort | tr '\\n' ' ')\n"""
        """printf '{"args": "%s", "env": "%s", "request": %s}' "$*" "$names" "$(cat)" """
    )
    answer = status(by_program(tmp_path, script, "--site", "$(id); x"))
    assert answer["args"] == "--site $(id); x"
    assert answer["env"].split() == ["HOME", "LANG", "PATH", "PWD"]
    assert answer["request"] == {
        "verb": "status", "host": {"name": "web-1", "address": WEB.address, "groups": ["web", "all"]},
        "payload": {"incident": "IR-2026-0001"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("script", "kind", "reason"),
    [
        (
            "echo 'port 7 is unknown' >&2; exit 3",
            HookFailed,
            "hook switch, status web-1: it ended with status 3: port 7",
        ),
        ("echo isolated", HookFailed, "the answer is not a JSON object: 'isolated"),
        ("echo '[]'", HookFailed, "not a JSON object"),
        ("exit 0", HookFailed, "not a JSON object"),
        ("yes '{}'", HookFailed, "said more than"),
        ("kill -9 $$", HookFailed, "status -9"),
    ],
)
def test_a_program_that_fails_is_told_in_its_own_words(
    tmp_path: Path, script: str, kind: type[IrflowError], reason: str
) -> None:
    with pytest.raises(kind, match=reason) as failed:
        status(by_program(tmp_path, script))
    assert failed.value.where == "web-1"


def test_a_program_that_is_not_there_was_not_started(tmp_path: Path) -> None:
    hooks = ConfiguredHooks({"switch": HookSettings(groups=("web",), command=(f"{tmp_path}/none",))}, FileSecrets())
    with pytest.raises(ServiceMissing, match="cannot be run: no such file"):
        status(hooks)


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! >{tmp_path}/child; trap '' TERM; while :; do sleep 1000; done"
    start = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"no answer within 0.5 s.*unknown"):
        status(by_program(tmp_path, script), timeout_s=0.5)
    assert time.monotonic() - start < 3
    assert gone(int((tmp_path / "child").read_text()))


def test_a_hooks_own_timeout_goes_before_a_longer_one_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(DeadlineExceeded, match=r"within 0.2 s"):
        hooks = ConfiguredHooks(
            {"switch": HookSettings(groups=("web",), command=(program(tmp_path, "exec sleep 60"),), timeout=0.2)},
            FileSecrets(),
        )
        status(hooks, timeout_s=30)


def test_a_child_that_keeps_the_pipes_open_does_not_keep_us_waiting(tmp_path: Path) -> None:
    script = f'sleep 1000 & echo $! >{tmp_path}/child; echo \'{{"state": "open"}}\''
    start = time.monotonic()
    try:
        assert status(by_program(tmp_path, script)) == {"state": "open"}
        assert time.monotonic() - start < 3
    finally:
        os.kill(int((tmp_path / "child").read_text()), 9)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


# ---------------------------------------------------------------- web services

Reply = Callable[[BaseHTTPRequestHandler, bytes], None]


@contextmanager
def service(folder: Path, reply: Reply, **more: Any) -> Iterator[ConfiguredHooks]:
    """A web service on loopback, the key it shares with irflow, and the hooks that call it."""
    key = folder / "switch.hook"
    key.write_text("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())
    key.chmod(0o600)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            reply(self, self.rfile.read(int(self.headers["content-length"])))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/irflow"
    try:
        settings = HookSettings(groups=("web",), url=url, key=f"file:{key}", **more)
        yield ConfiguredHooks({"cloud": settings}, FileSecrets())
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(handler: BaseHTTPRequestHandler, status_: int, body: bytes, **headers: str) -> None:
    handler.send_response(status_)
    for name, value in {"content-length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def test_a_service_can_check_who_asks(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def reply(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        key = (tmp_path / "switch.hook").read_text()
        seen.append(Webhook(key).verify(body, {name.lower(): value for name, value in handler.headers.items()}))
        answer(handler, 200, b'{"state": "open"}')

    with service(tmp_path, reply) as hooks:
        assert status(hooks) == {"state": "open"}
    assert seen[0]["verb"] == "status"
    assert seen[0]["host"]["name"] == "web-1"


@pytest.mark.parametrize(
    ("code", "body", "headers", "reason"),
    [
        (503, b"switch is busy", {}, "hook cloud, status web-1: it answered 503: switch is busy"),
        (302, b"", {"location": "http://127.0.0.1:1/"}, "it answered 302"),
        (200, b"<html>", {}, "not a JSON object"),
        (200, b" " * 100_000, {}, "said more than"),
    ],
)
def test_a_service_that_fails_is_told_in_its_own_words(
    tmp_path: Path, code: int, body: bytes, headers: dict[str, str], reason: str
) -> None:
    with service(tmp_path, lambda handler, _: answer(handler, code, body, **headers)) as hooks:
        with pytest.raises(HookFailed, match=reason):
            status(hooks)


def test_a_service_that_drips_is_cut_at_the_deadline(tmp_path: Path) -> None:
    stop = threading.Event()

    def drip(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not stop.wait(0.05):
                handler.wfile.write(b" ")
                handler.wfile.flush()
        except OSError:
            pass

    start = time.monotonic()
    try:
        with service(tmp_path, drip) as hooks, pytest.raises(DeadlineExceeded, match=r"no answer within 0\.5 s"):
            status(hooks, timeout_s=0.5)
        assert time.monotonic() - start < 3
    finally:
        stop.set()


def test_a_service_that_is_not_there_was_not_asked(tmp_path: Path) -> None:
    with service(tmp_path, lambda handler, _: None) as hooks:
        pass
    with pytest.raises(ServiceMissing, match=r"no connection to http://127\.0\.0\.1"):
        status(hooks)


def test_a_key_that_is_too_short_is_named_but_not_shown(tmp_path: Path) -> None:
    with service(tmp_path, lambda handler, _: answer(handler, 200, b"{}")) as hooks:
        (tmp_path / "switch.hook").write_text("whsec_canary!")
        with pytest.raises(ConfigurationError, match=r"file:.*switch\.hook.* is not 24 to 64 bytes") as failed:
            status(hooks)
    assert "canary" not in str(failed.value)


def test_the_answers_reach_the_caller_as_they_are(tmp_path: Path) -> None:
    sent = {"state": "isolated", "until": "2026-11-01T00:00:00Z", "ports": [7, 8]}
    with service(tmp_path, lambda handler, _: answer(handler, 200, json.dumps(sent).encode())) as hooks:
        assert status(hooks) == sent
