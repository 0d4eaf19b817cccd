"""Connecting and probing end in time, names included; a name's addresses are tried in turn."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from irflow.adapters import tcp
from irflow.adapters.deadline import Deadline
from irflow.adapters.prober import TcpProber
from irflow.adapters.ssh import SshShell
from irflow.core.errors import HostUnreachable
from irflow.core.inventory import Host, Inventory
from tests.fakes.ssh_servers import OneKey


def host(address: str, port: int = 22) -> Host:
    return Host(name="web-1", address=address, port=port, key="file:/key", host_keys=("ssh-ed25519 AAAA",))


def test_a_port_is_open_refused_or_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert TcpProber().tcp(host("127.0.0.1"), port, timeout_s=5) == "open"
    assert TcpProber().tcp(host("127.0.0.1"), port, timeout_s=5) == "refused"
    assert TcpProber().tcp(host("a" * 64), port, timeout_s=0.5) == "silent"


def test_a_name_server_that_does_not_answer_does_not_hold_up_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    real = socket.getaddrinfo

    def stuck(name: str, *args: Any, **kwargs: Any) -> Any:
        if not kwargs.get("flags"):
            over.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "late")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", stuck)
    shell = SshShell(OneKey(), Inventory())
    started = time.monotonic()
    try:
        assert TcpProber().tcp(host("web-1.example"), 22, timeout_s=0.3) == "silent"
        with pytest.raises(HostUnreachable, match="no answer in time"):
            shell.connect(host("web-1.example"), timeout_s=0.3)
        assert time.monotonic() - started < 5
    finally:
        over.set()
        shell.close()


def test_a_name_that_does_not_resolve_is_said() -> None:
    shell = SshShell(OneKey(), Inventory())
    try:
        with pytest.raises(HostUnreachable, match="does not resolve") as caught:
            shell.connect(host("a" * 64), timeout_s=5)
        assert "IP address" in caught.value.hint
    finally:
        shell.close()


def test_the_second_address_of_a_name_is_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        both = [(socket.AF_INET, ("127.0.0.2", port)), (socket.AF_INET, ("127.0.0.1", port))]
        monkeypatch.setattr(tcp, "resolve", lambda name, port, deadline: both)
        with tcp.connect(host("web-1.example"), port, Deadline.after(5)) as sock:
            assert sock.getpeername()[0] == "127.0.0.1"
