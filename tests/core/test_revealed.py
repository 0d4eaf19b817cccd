"""Values of secrets in text: every form of them goes, and what is no secret stays readable."""

from __future__ import annotations

import base64
import html
import json
import os
import secrets
import threading
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from irflow.core.errors import IrflowError
from irflow.core.journal import Draft, Kind
from irflow.core.journal_redaction import without_secrets
from irflow.core.renderings import COMMON, renderings
from irflow.core.revealed import MASK, Register, redact, redact_all
from irflow.core.secret import SecretValue

VALUE = 'tr0ub4dor&3/"quo\'ted"+\\ü§'
LINE = "2026-01-01 02:38:21,123 INFO irflow.responder.loop: IR-2026-0001: isolate@web01 done in 0.21 s"
PEM = "\n".join([
    "-----BEGIN OPENSSH PRIVATE " + "KEY-----", *(secrets.token_hex(35) for _ in range(5)), "QUJDREVGRw==",
    "-----END OPENSSH PRIVATE " + "KEY-----",
])  # fmt: skip


def forms(value: str) -> dict[str, str]:
    """How a value looks in the texts that carry one."""
    data = value.encode()
    return {
        "raw": value,
        "base64": base64.b64encode(data).decode(),
        "base64, no padding": base64.b64encode(data).decode().rstrip("="),
        "base64 for URLs": base64.urlsafe_b64encode(data).decode(),
        "Basic": base64.b64encode(b"user:" + data).decode(),
        "Basic, longer user": base64.b64encode(b"irflow:" + data + b"!").decode(),
        "URL": quote(value, safe=""),
        "URL path": quote(value),
        "form": quote_plus(value),
        "JSON": json.dumps(value),
        "JSON in UTF-8": json.dumps(value, ensure_ascii=False),
        "JSON in JSON": json.dumps(json.dumps(value)),
        "repr": repr(value),
        "repr of bytes": repr(data),
        "repr in repr": repr([repr(value)]),
        "exception": repr(ValueError(f'it\'s "{value}"')),
        "HTML": html.escape(value),
        "hex": data.hex(),
    }


@pytest.mark.parametrize("form", forms(VALUE))
def test_a_value_goes_in_every_form_in_which_text_may_carry_it(form: str) -> None:
    SecretValue(VALUE.encode())
    said = redact(f"before {forms(VALUE)[form]} after")
    assert said.startswith("before ")
    assert said.endswith(" after")
    assert MASK in said
    for hidden in (VALUE, "tr0ub4dor", quote(VALUE, safe=""), forms(VALUE)["base64"][:12], VALUE.encode().hex()[:12]):
        assert hidden not in said


@given(st.text(min_size=12, max_size=80), st.text(max_size=20), st.text(max_size=20))
@example("a" * 12, "a" * 5, "a" * 7)
@example("0123456789ab", "4", "=")
def test_whatever_stands_around_a_long_value_it_is_not_in_the_text(value: str, before: str, after: str) -> None:
    register = Register()
    register.add(value.encode("utf-8", "surrogatepass"))
    if len(register) and value == value.strip():
        assert value not in register.without(before + value + after).replace(MASK, "\0")


@given(st.binary(min_size=12, max_size=60), st.binary(max_size=9), st.binary(max_size=9))
def test_base64_tells_nothing_of_a_value_wherever_it_begins(value: bytes, before: bytes, after: bytes) -> None:
    register = Register()
    register.add(value)
    if len(register) and value == value.strip():
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            assert register.without(f"x {encode(before + value + after).decode()} y") == f"x {MASK} y"


def test_a_key_file_goes_as_a_whole_and_line_by_line() -> None:
    SecretValue(PEM.encode())
    lines = PEM.splitlines()
    for line in lines[1:-1]:
        assert redact(f"it said {line}.") == f"it said {MASK}."
    assert redact(f"load failed: {PEM}!") == f"load failed: {MASK}!"
    assert MASK in (said := redact(repr(PEM)))
    assert not any(line in said for line in lines[1:-1])


@pytest.mark.parametrize("text", [
    "token hvs.CAESIJ" + "a1B2" * 10, "token hvb.AAAAAQ" + "a1B2" * 10, "token s." + "a1B2" * 6,
    "{'X-Vault-Token': 'abcdefghij'}", "[(b'authorization', b'Basic abcdefghij')]", "Authorization: Bearer abcdefghij",
    "postgresql://shop:abcdefghij@db:5432/shop", "-----BEGIN PRIVATE " + "KEY-----\\nabcdefghij",
])  # fmt: skip
def test_what_is_a_secret_by_its_looks_goes_without_having_been_seen(text: str) -> None:
    said = redact(text)
    assert MASK in said
    assert not any(one in said for one in ("abcdefghij", "a1B2"))


@pytest.mark.parametrize("text", [
    LINE, "https://user@host:8200/v1/kv/data/app?list=true", "postgresql+psycopg://user@host/database",
    "authorization, which it lacks", "see Authorization Code Flow", "hvs. and s. and b.x", "a://b:c/d@e",
    "-----BEGIN CERTIFICATE-----", hex(2**256), "10.0.0.1:22 -> 10.0.0.2:443",
])  # fmt: skip
def test_ordinary_lines_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


def test_weak_values_do_not_make_lines_unreadable() -> None:
    register = Register()
    for value in ("", "a", "12345", "1234567", "hosts", *COMMON, " root \n"):
        register.add(value.encode())
    assert len(register) == 0
    register.add(b"a1b2c3")
    register.add(b"sunshine")
    assert register.without("sha256 00a1b2c3ff, sunshines") == "sha256 00a1b2c3ff, sunshines"
    assert register.without("pw=a1b2c3, 'sunshine'") == "pw=***, '***'"
    assert register.without("said\\nsunshine") == "said\\n***"
    assert register.without("pw%3Dsunshine") == "pw%3D***"


def test_the_register_is_bounded_and_keeps_what_was_used_last() -> None:
    register = Register(most=3)
    values = [secrets.token_urlsafe(24) for _ in range(5)]
    for value in values[:3]:
        register.add(value.encode())
    register.add(values[0].encode())
    for value in values[3:]:
        register.add(value.encode())
    assert len(register) == 3
    assert [register.without(value) == MASK for value in values] == [True, False, False, True, True]


def test_what_two_values_share_stays_hidden_when_one_is_forgotten() -> None:
    register = Register(most=2)
    shared = secrets.token_hex(20)
    register.add(f"first-line-of-it\n{shared}".encode())
    register.add(f"another-line-of-it\n{shared}".encode())
    register.add(secrets.token_bytes(20))
    assert register.without(shared) == MASK
    assert register.without("first-line-of-it") == "first-line-of-it"


def test_a_large_value_is_known_by_its_pieces() -> None:
    register = Register()
    value = secrets.token_urlsafe(30_000)
    register.add(value.encode())
    assert register.without(f"x {value} y").replace(MASK, "") == "x  y"
    assert register.without(f"x {base64.b64encode(value.encode()).decode()} y") == f"x {MASK} y"


def test_of_an_address_its_secret_parts_go_too() -> None:
    SecretValue(b"https://hooks.example/services/T00000000/B0000000000000000XY?key=k123456789012345678")
    said = redact("Max retries exceeded with url: /services/T00000000/B0000000000000000XY (key=k123456789012345678)")
    assert said == "Max retries exceeded with url: /services/T00000000/*** (key=***)"


def test_an_error_never_holds_a_value() -> None:
    value = SecretValue(b"the-value-of-an-error")
    error = IrflowError(f"refused {value.reveal().decode()}", where=value.reveal().decode(), hint=f"not {value!r}")
    assert (error.message, error.where, error.args) == ("refused ***", "***", ("refused ***",))
    assert str(error) == "***: refused ***. not SecretValue(***)"


def test_the_journal_is_told_no_value_and_what_undo_needs_stays_exact() -> None:
    SecretValue(b"the-value-in-a-journal")
    data = {"facts": {"said": ["x the-value-in-a-journal"]}, "n": 1}
    kept = {"facts": {"said": ["x ***"]}, "n": 1}
    assert without_secrets(Draft(Kind.STEP_OUTCOME, "a", data)).data == kept
    assert without_secrets(Draft(Kind.STEP_INTENT, "a", {"was": "http://a:b@c"})).data == {"was": "http://a:b@c"}


def test_texts_inside_of_other_values_go_and_their_shape_stays() -> None:
    SecretValue(b"the-value-inside")
    found = redact_all({"the-value-inside": [b"the-value-inside", ("x", 1, None)], "deep": {"a": {"the-value-inside"}}})
    assert found == {MASK: [b"***", ("x", 1, None)], "deep": {"a": {MASK}}}


def test_many_threads_may_use_it_at_once() -> None:
    register, wrong = Register(most=50), []

    def work() -> None:
        for _ in range(150):
            value = secrets.token_urlsafe(20)
            register.add(value.encode())
            if register.without(f"a {value} b") not in (f"a {MASK} b", f"a {value} b"):
                wrong.append(value)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (wrong, len(register)) == ([], 50)
    assert len(register._uses) == sum(map(len, register._index.values())) <= sum(map(len, register._values.values()))


def test_a_child_that_was_forked_while_others_wrote_knows_all_and_is_not_stuck() -> None:
    register, known, stop = Register(), secrets.token_urlsafe(24), threading.Event()
    register.add(known.encode())

    def write() -> None:
        while not stop.is_set():
            register.add(secrets.token_bytes(24))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                register.add(b"a-value-of-the-child")
                os._exit(0 if register.without(f"{known} a-value-of-the-child") == "*** ***" else 1)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stop.set()
        thread.join()


def test_a_line_costs_microseconds_with_a_full_register() -> None:
    register = Register()
    for _ in range(4096):
        register.add(secrets.token_urlsafe(24).encode())

    def per_line() -> float:
        start = time.perf_counter()
        for _ in range(200):
            register.without(LINE)
        return (time.perf_counter() - start) / 200

    assert min(per_line() for _ in range(10)) < 200e-6, "17 us on an idle machine"


def test_no_form_is_too_short_to_be_told_from_ordinary_text() -> None:
    assert all(len(form.text) >= 6 for value in (b"abcdef", b"\xff" * 6, PEM.encode()) for form in renderings(value))
