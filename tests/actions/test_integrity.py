"""What counts as a difference between a host and its baseline."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from irflow.actions import _manifest
from irflow.actions._manifest import Difference, compare
from irflow.actions.integrity_baseline import BaselineParams, IntegrityBaseline
from irflow.actions.integrity_check import CheckParams, IntegrityCheck
from irflow.core.errors import IrflowError
from tests.fakes.remote import FakeEvidence, FakeShell, context

A, B = "a" * 64, "b" * 64
UNIT = "/etc/systemd/system/irflow-isolation.service"
BASE = f"""sum {A} /etc/hosts
meta f 644 0:0 12 /etc/hosts
sum {A} /root/.ssh/authorized_keys
meta f 600 0:0 80 /root/.ssh/authorized_keys
meta l 777 0:0 /etc/link -> /tmp/x
meta d 755 0:0 /etc/a b
listen tcp 0.0.0.0:22
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", Difference()),
        (f"sum {A} /etc/hosts", f"sum {B} /etc/hosts", Difference(changed=("/etc/hosts",))),
        ("meta f 644 0:0 12 /etc/hosts", "meta f 4644 0:0 12 /etc/hosts", Difference(changed=("/etc/hosts",))),
        ("meta f 644 0:0 12 /etc/hosts", "meta f 644 1:0 12 /etc/hosts", Difference(changed=("/etc/hosts",))),
        ("-> /tmp/x", "-> /tmp/y", Difference(changed=("/etc/link",))),
        ("meta d 755 0:0 /etc/a b\n", "", Difference(removed=("/etc/a b",))),
        ("listen tcp", f"sum {A} /etc/new\nmeta f 644 0:0 1 /etc/new\nlisten tcp", Difference(added=("/etc/new",))),
        ("listen tcp", "suid 4755 0:0 /tmp/sh\nlisten tcp", Difference(added=("/tmp/sh",))),
        ("listen tcp", f"deleted {A} /dev/shm/k (deleted)\nlisten tcp",
         Difference(running=(f"deleted {A} /dev/shm/k (deleted)",))),
        ("listen tcp", f"stray {A} /tmp/k\nlisten tcp", Difference(running=(f"stray {A} /tmp/k",))),
        ("0.0.0.0:22\n", "0.0.0.0:22\nlisten tcp [::]:4444\n", Difference(listening=("tcp [::]:4444",))),
        ("0.0.0.0:22\n", "0.0.0.0:22\nlisten tcp 127.0.0.1:6010\nlisten udp 0.0.0.0:68\n", Difference()),
        ("listen tcp 0.0.0.0:22\n", "", Difference()),
        (f"sum {A} /root/.ssh/authorized_keys\nmeta f 600 0:0 80 /root/.ssh/authorized_keys\n", "",
         Difference(withdrawn=("/root/.ssh/authorized_keys",))),
        (f"sum {A} /root/.ssh", f"sum {B} /root/.ssh", Difference(changed=("/root/.ssh/authorized_keys",))),
        ("listen tcp", f"sum {A} {UNIT}\nmeta f 600 0:0 9 {UNIT}\nlisten tcp", Difference()),
        ("listen tcp", f"sum {A} {UNIT}.d/x.conf\nlisten tcp", Difference(added=(f"{UNIT}.d/x.conf",))),
    ],
)  # fmt: skip
def test_every_kind_of_difference_is_named(old: str, new: str, expected: Difference) -> None:
    assert compare(BASE, BASE.replace(old, new, 1) if old else BASE) == expected


def test_what_a_person_agreed_to_is_named_and_does_not_fail() -> None:
    now = BASE.replace(f"sum {A} /etc/hosts", f"sum {B} /etc/hosts")
    assert compare(BASE, now, ("/etc/hosts", "/etc/other")) == Difference(accepted=("/etc/hosts",))


def test_a_forged_line_hides_no_real_one() -> None:
    now = BASE.replace(f"sum {A} /etc/hosts", f"sum {B} /etc/hosts") + f"meta f 644 0:0 1 /etc/x\nsum {A} /etc/hosts\n"
    assert "/etc/hosts" in compare(BASE, now).changed


def test_baselines_of_hosts_with_alike_names_are_kept_apart() -> None:
    prefixes = [_manifest.prefix(name) for name in ("web", "web.1", "WEB", "web-1", "web_1")]
    assert len(set(prefixes)) == 5
    assert not [(a, b) for a in prefixes for b in prefixes if a != b and b.startswith(a)]
    named = _manifest.name("Web-1", b"x", datetime(2026, 1, 2, tzinfo=UTC))
    assert re.fullmatch(r"[a-z0-9._-]+", named)
    assert _manifest.untouched(named, b"x")
    assert not _manifest.untouched(named, b"y")


def manifest(body: str) -> str:
    return body + f"end {body.count(chr(10))}\n"


def test_a_baseline_is_kept_and_found_and_a_host_like_it_passes() -> None:
    store = FakeEvidence()
    about = context(shell=FakeShell({"integrity.sh list": manifest(BASE)}), evidence=store)
    baseline, check = IntegrityBaseline(), IntegrityCheck()
    params = BaselineParams(host="web-1")
    applied = tuple(baseline.apply(one, about) for one in baseline.plan(params, baseline.observe(params, about)))
    proof = baseline.verify(params, {"before": ""}, applied, about)
    assert proof.passed
    assert proof.facts["evidence"][0]["path"] == proof.facts["baseline"]
    seen = check.observe(CheckParams(host="web-1"), about)
    assert check.plan(CheckParams(host="web-1"), seen) == ()
    assert check.verify(CheckParams(host="web-1"), seen, (), about).passed
    assert seen["baseline"] == proof.facts["baseline"]


@pytest.mark.parametrize("answer", [BASE, BASE + "end 3\n", "", "end 0\n" + BASE])
def test_an_answer_that_is_not_whole_is_no_manifest(answer: str) -> None:
    about = context(shell=FakeShell({"integrity.sh list": answer}))
    with pytest.raises(IrflowError, match="not whole"):
        _manifest.fetch(about, ("/etc",))


def test_a_failed_check_names_the_paths() -> None:
    check, params = IntegrityCheck(), CheckParams(host="web-1")
    seen = {"baseline": "b", "lines": 1, **Difference(changed=tuple(f"/etc/{n}" for n in range(7))).to_facts()}
    proof = check.verify(params, seen, (), context())
    assert proof.failed == ("no file changed",)
    assert proof.checks[0].after == "/etc/0, /etc/1, /etc/2, /etc/3, /etc/4 and 2 more"
    assert proof.facts["changed"] == [f"/etc/{n}" for n in range(7)]
