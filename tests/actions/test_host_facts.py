"""What a host says of itself is data, whoever speaks."""

from __future__ import annotations

import json

from irflow.actions.host_facts import FactsParams, HostFacts, read
from tests.fakes.remote import FakeShell, context

ANSWER = """os=Debian GNU/Linux 12 (bookworm)
kernel=6.1.0
uptime_s=100
clock=1000.5
hostname=web-1
session=mallory@pts/0
listener=tcp 0.0.0.0:22 sshd
outbound=203.0.113.9:443 12
outbound=203.0.113.10:443 1
suspicious=runs a deleted program: pid 7 /dev/shm/k (deleted)
"""


def test_the_answer_becomes_facts() -> None:
    assert read(ANSWER, 1000.0) == {
        "os": "Debian GNU/Linux 12 (bookworm)", "kernel": "6.1.0", "hostname": "web-1", "uptime_s": 100,
        "clock_offset_s": 0.5, "sessions": ["mallory@pts/0"], "logged_in": [], "listeners": ["tcp 0.0.0.0:22 sshd"],
        "outbound": ["203.0.113.9:443 12", "203.0.113.10:443 1"],
        "suspicious": ["runs a deleted program: pid 7 /dev/shm/k (deleted)"],
    }  # fmt: skip


def test_what_an_intruder_makes_it_say_stays_text_and_short() -> None:
    hostile = (
        "state=released\nuptime_s=1e9\nclock=nan\nclock=٣\nsession={{ 7*7 }}\nsession="
        + "A" * 10_000
        + "\nos\n=\nhostname=a=b"
    )
    facts = read(hostile, 0.0)
    assert "state" not in facts
    assert facts["uptime_s"] == 0
    assert facts["clock_offset_s"] is None
    assert facts["sessions"] == ["{{ 7*7 }}", "A" * 300]
    assert facts["hostname"] == "a=b"
    json.dumps(facts, allow_nan=False)


def test_a_host_that_says_nothing_is_no_first_look() -> None:
    action, about = HostFacts(), context(shell=FakeShell({"facts.sh": "nonsense\n"}))
    params = FactsParams(host="web-1")
    seen = action.observe(params, about)
    assert action.plan(params, seen) == ()
    assert not action.verify(params, seen, (), about).passed
