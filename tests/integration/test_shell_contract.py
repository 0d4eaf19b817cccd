"""What everybody may rely on in a shell: the real one, on a real OpenSSH, and the fake of the unit tests keep it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from irflow.adapters.secret_files import FileSecrets
from irflow.adapters.ssh import SshShell
from irflow.core.errors import (
    ConfigurationError,
    ConnectionLost,
    DeadlineExceeded,
    HostKeyChanged,
    HostKeyUnknown,
    HostUnreachable,
    LoginFailed,
    OutcomeUnknown,
    OutputTooLarge,
    RemoteFailed,
)
from irflow.core.inventory import Host, Inventory
from irflow.core.ports import Shell
from irflow.lab import inventory
from irflow.lab.lab import Lab
from tests.fakes.shell import Call, FakeShell, Reply
from tests.fakes.ssh_servers import new_key

SCRIPTS = {
    "say.sh": b'printf "%s\\n" "$#" "$@"; echo aside >&2\n',
    "fail.sh": b"echo some; echo why it failed >&2; exit 75\n",
    "slow.sh": b"exec sleep 30\n",
    "long.sh": b"head -c 200000 /dev/zero\n",
    "numbers.sh": b"seq 200000; echo last words >&2; exit 3\n",
    "quick.sh": b"head -c 50000000 /dev/zero\n",
    "nap.sh": b"sleep 3; echo awake\n",
    "both.sh": b"head -c 3000000 /dev/zero >&2; echo end\n",
    "connection.sh": b'echo "${IRFLOW_CONNECTION#* }"\n',
}

NUMBERS = "".join(f"{number}\n" for number in range(1, 200_001)).encode()


def say(call: Call) -> Reply:
    return Reply("".join(f"{line}\n" for line in (len(call.args), *call.args)).encode(), b"aside\n")


FAKES = {
    "say.sh": say,
    "fail.sh": lambda call: Reply(b"some\n", b"why it failed\n", 75),
    "slow.sh": lambda call: Reply(seconds=30),
    "long.sh": lambda call: Reply(bytes(200_000)),
    "numbers.sh": lambda call: Reply(NUMBERS, b"last words\n", 3),
    "quick.sh": lambda call: Reply(bytes(50_000_000)),
    "nap.sh": lambda call: Reply(b"awake\n", seconds=3),
    "both.sh": lambda call: Reply(b"end\n", bytes(3_000_000)),
    "connection.sh": lambda call: Reply(f"{call.connection}\n".encode()),
}


@dataclass
class Site:
    """A shell and hosts it meets: a good one, one that is not there, one with another key, one that refuses us."""

    shell: Shell
    good: Host
    absent: Host
    changed: Host
    closed_to_us: Host


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(2, tmp_path_factory.mktemp("lab") / "run") as running:
        yield running


@pytest.fixture(params=["openssh", "fake"])
def site(request: pytest.FixtureRequest, lab: Lab, tmp_path: Path) -> Iterator[Site]:
    good, other = inventory.entries(lab)
    stranger = tmp_path / "stranger"
    stranger.touch(mode=0o600)
    stranger.write_bytes(new_key())
    hosts = (
        good,
        good.model_copy(update={"name": "absent", "port": 9}),
        good.model_copy(update={"name": "changed", "host_keys": other.host_keys}),
        good.model_copy(update={"name": "closed-to-us", "key": f"file:{stranger}"}),
    )
    shell: Shell
    if request.param == "fake":
        shell = FakeShell(
            dict(FAKES),
            {
                "absent": HostUnreachable("connection refused", where="absent"),
                "changed": HostKeyChanged("another key", where="changed"),
                "closed-to-us": LoginFailed("refused", where="closed-to-us"),
            },
        )
    else:
        shell = SshShell(FileSecrets(), Inventory(hosts={host.name: host for host in hosts}), scripts=_script)
    yield Site(shell, *hosts)
    shell.close()


def _script(name: str) -> bytes:
    if name not in SCRIPTS:
        raise ConfigurationError(f"no script {name}")
    return SCRIPTS[name]


def test_output_errors_and_status_come_back(site: Site) -> None:
    done = site.shell.run(site.good, "say.sh", ["--epoch", "7"], timeout_s=10)
    assert (done.status, done.stdout, done.stderr) == (0, b"2\n--epoch\n7\n", b"aside\n")
    assert 0 <= done.seconds < 10


@pytest.mark.parametrize("args", [[], [""], ["udp:[2001:db8::1]:53"], ["--step", "a/b.c_d@e%f+g=h,i-j", ""], ["-n"]])
def test_arguments_arrive_as_they_are(site: Site, args: list[str]) -> None:
    done = site.shell.run(site.good, "say.sh", args, timeout_s=10)
    assert done.text.split("\n")[:-1] == [str(len(args)), *args]


@pytest.mark.parametrize(
    "argument",
    ["a b", "$(id)", "`id`", "a;b", "a'b", 'a"b', "a\nb", "~", "*", "a\\b", "<x", "ü", "a\0b", "a|b", "#", "!"],
)
def test_an_argument_that_a_shell_could_read_as_more_is_refused(site: Site, argument: str) -> None:
    with pytest.raises(ConfigurationError, match="refusing to send"):
        site.shell.run(site.good, "say.sh", ["--step", argument], timeout_s=10)


@pytest.mark.parametrize("name", ["none.sh", "../say.sh", "/etc/passwd", "say", ""])
def test_a_script_that_irflow_does_not_have_is_refused(site: Site, name: str) -> None:
    with pytest.raises(ConfigurationError):
        site.shell.run(site.good, name, timeout_s=10)


def test_a_failure_says_where_why_and_with_which_status(site: Site) -> None:
    with pytest.raises(RemoteFailed, match="why it failed") as caught:
        site.shell.run(site.good, "fail.sh", timeout_s=10)
    assert (caught.value.where, caught.value.status) == (site.good.name, 75)


def test_a_failure_is_a_result_when_the_caller_checks_it(site: Site) -> None:
    done = site.shell.run(site.good, "fail.sh", timeout_s=10, check=False)
    assert (done.status, done.text, done.stderr) == (75, "some\n", b"why it failed\n")


def test_a_script_that_takes_too_long_leaves_the_outcome_unknown(site: Site) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded) as caught:
        site.shell.run(site.good, "slow.sh", timeout_s=0.7)
    assert isinstance(caught.value, OutcomeUnknown)
    assert time.monotonic() - started < 3
    assert site.shell.run(site.good, "say.sh", timeout_s=10).status == 0


def test_too_much_output_is_cut_off_and_said(site: Site) -> None:
    with pytest.raises(ConnectionLost, match="more than 100000 bytes"):
        site.shell.run(site.good, "long.sh", timeout_s=10, max_output=100_000)
    assert len(site.shell.run(site.good, "long.sh", timeout_s=10, max_output=200_000).stdout) == 200_000


def test_many_errors_do_not_hold_up_the_output(site: Site) -> None:
    assert site.shell.run(site.good, "both.sh", timeout_s=20, max_output=100).text == "end\n"


def test_a_stream_arrives_in_pieces_whole_hashed_and_with_its_status(site: Site) -> None:
    pieces: list[bytes] = []
    done = site.shell.stream(site.good, "numbers.sh", sink=pieces.append, timeout_s=20, max_bytes=len(NUMBERS))
    assert len(pieces) > 1
    assert b"".join(pieces) == NUMBERS
    assert (done.status, done.size, done.stderr) == (3, len(NUMBERS), b"last words\n")
    assert done.sha256 == hashlib.sha256(NUMBERS).hexdigest()


def test_the_arguments_of_a_stream_are_checked_and_arrive(site: Site) -> None:
    pieces: list[bytes] = []
    site.shell.stream(site.good, "say.sh", ["a=b"], sink=pieces.append, timeout_s=20, max_bytes=100)
    assert b"".join(pieces) == b"1\na=b\n"
    with pytest.raises(ConfigurationError, match="refusing to send"):
        site.shell.stream(site.good, "say.sh", ["a b"], sink=pieces.append, timeout_s=20, max_bytes=100)


def test_a_stream_that_is_too_long_is_cut_off_and_its_sink_gets_no_more_than_was_allowed(site: Site) -> None:
    pieces: list[bytes] = []
    with pytest.raises(OutputTooLarge, match="more than 100000 bytes"):
        site.shell.stream(site.good, "numbers.sh", sink=pieces.append, timeout_s=20, max_bytes=100_000)
    assert len(b"".join(pieces)) <= 100_000


def test_a_sink_that_fails_ends_its_stream_and_nothing_else(site: Site) -> None:
    class DiskFull(Exception):
        pass

    def sink(piece: bytes) -> None:
        raise DiskFull

    def connection() -> str:
        return site.shell.run(site.good, "connection.sh", timeout_s=10).text

    before = connection()
    with pytest.raises(DiskFull):
        site.shell.stream(site.good, "numbers.sh", sink=sink, timeout_s=20, max_bytes=1 << 30)
    assert connection() == before


def test_a_stream_ends_at_its_deadline_though_its_sink_is_slow_and_disturbs_nobody(site: Site) -> None:
    site.shell.connect(site.good, timeout_s=10)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(site.shell.run, site.good, "nap.sh", timeout_s=20)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            site.shell.stream(site.good, "quick.sh", sink=lambda piece: time.sleep(2), timeout_s=0.7, max_bytes=1 << 30)
        assert time.monotonic() - started < 3
        assert other.result().text == "awake\n"


def test_calls_share_a_connection_until_a_fresh_one_replaces_it(site: Site) -> None:
    def connection(fresh: bool = False) -> str:
        return site.shell.run(site.good, "connection.sh", timeout_s=10, fresh=fresh).text

    site.shell.connect(site.good, timeout_s=10)
    first = connection()
    assert connection() == first
    second = connection(fresh=True)
    assert second != first
    assert connection() == second


def test_a_host_that_is_not_there_is_unreachable(site: Site) -> None:
    for attempt in (
        lambda: site.shell.run(site.absent, "say.sh", timeout_s=10),
        lambda: site.shell.connect(site.absent, timeout_s=10),
    ):
        with pytest.raises(HostUnreachable) as caught:
            attempt()
        assert caught.value.where == "absent"
        assert not isinstance(caught.value, OutcomeUnknown)


def test_a_host_without_a_key_on_record_is_not_spoken_to(site: Site) -> None:
    with pytest.raises(HostKeyUnknown):
        site.shell.run(site.good.model_copy(update={"name": "new", "host_keys": ()}), "say.sh", timeout_s=10)


def test_a_host_with_another_key_is_not_spoken_to(site: Site) -> None:
    with pytest.raises(HostKeyChanged):
        site.shell.run(site.changed, "say.sh", timeout_s=10)


def test_a_refused_key_is_a_failed_login(site: Site) -> None:
    with pytest.raises(LoginFailed):
        site.shell.run(site.closed_to_us, "say.sh", timeout_s=10)


def test_a_closed_shell_sends_nothing(site: Site) -> None:
    site.shell.close()
    with pytest.raises(HostUnreachable):
        site.shell.run(site.good, "say.sh", timeout_s=10)
