"""Who may do what; which one-time codes are good, used up, or come too often. Pure, and by the vectors of RFC 6238."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from irflow.adapters.one_time import AuthenticatorCodes
from irflow.core.approvals import Operator, indistinct, proved_by_account
from irflow.core.errors import ConfigurationError, Refused
from irflow.core.identity import _LEAST, Access, Deed, allows, require
from irflow.core.incident import SYSTEM
from irflow.core.journal import GENESIS, Draft, Event, Kind, chain
from irflow.core.one_time import (
    LOCKED,
    MOST_FAILURES,
    SKEW,
    STEP_S,
    Standing,
    Standings,
    Verdict,
    around,
    fold,
    judge,
)
from irflow.core.secret import SecretValue

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
STEP = int(NOW.timestamp()) // STEP_S

# RFC 6238, appendix B: seconds since 1970, and the last 6 of the 8 digits (SHA-1), which is what 6 digits are.
VECTORS = {
    59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037",
    20000000000: "353130",
}  # fmt: skip
RFC_KEY = SecretValue(base64.b32encode(b"12345678901234567890"))


def operator(name: str, **more: object) -> Operator:
    return Operator.model_validate({"name": name, "login": name, "roles": (), **more})


def events(*drafts: tuple[Kind, dict[str, object]], start: datetime = NOW, every_s: float = 1.0) -> list[Event]:
    """A journal of `system`, one event after the other."""
    made: list[Event] = []
    for number, (kind, data) in zip(count(), drafts, strict=False):
        head = (made[-1].seq, made[-1].hash) if made else (0, GENESIS)
        made += chain(SYSTEM, head, start + timedelta(seconds=number * every_s), [Draft(kind, "irflow:x", dict(data))])
    return made


def proved(name: str, counter: int) -> tuple[Kind, dict[str, object]]:
    return Kind.OPERATOR_PROVED, {"operator": name, "counter": counter, "method": "totp"}


def refused(name: str, reason: str = "wrong") -> tuple[Kind, dict[str, object]]:
    return Kind.OPERATOR_REFUSED, {"operator": name, "reason": reason}


class TestAccess:
    @pytest.mark.parametrize(
        ("access", "may"),
        [
            (Access.MONITOR, {Deed.LOOK}),
            (Access.AGENT, {Deed.LOOK, Deed.ANSWER, Deed.NOTE, Deed.HALT}),
            (Access.DEVELOPER, set(Deed) - {Deed.ADMINISTER}),
            (Access.ADMIN, set(Deed)),
        ],
    )
    def test_each_level_may_do_exactly_this(self, access: Access, may: set[Deed]) -> None:
        assert {deed for deed in Deed if allows(access, deed)} == may

    def test_the_table_forgets_no_deed(self) -> None:
        assert set(_LEAST) == set(Deed)

    def test_a_refusal_says_who_what_and_whom_to_ask(self) -> None:
        with pytest.raises(Refused, match=r"eve has access monitor and may not approve .* access developer") as error:
            require(operator("eve", access="monitor"), Deed.APPROVE)
        assert error.value.exit_code == 3

    def test_an_operator_of_before_there_was_access_may_do_as_much_as_then(self) -> None:
        old = operator("old")
        assert (old.access, old.totp) == (Access.DEVELOPER, "")
        require(old, Deed.APPROVE)

    @pytest.mark.parametrize("text", ["JBSWY3DPEHPK3PXP", "vault:kv/eve", "env:IRFLOW_SECRET_EVE"])
    def test_a_key_is_a_reference_and_what_is_none_is_not_repeated(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"secret reference|env: names") as error:
            operator("eve", totp=text)
        assert "Write vault:MOUNT/path#field" in str(error.value)


class TestAccounts:
    def test_an_account_of_one_operator_is_proof_with_or_without_codes(self) -> None:
        one = operator("one", totp="file:a")
        assert proved_by_account([one, operator("other")], one)

    def test_an_account_of_several_proves_only_those_who_have_no_codes(self) -> None:
        with_codes, without = operator("one", login="soc", totp="file:a"), operator("two", login="soc")
        assert not proved_by_account([with_codes, without], with_codes)
        assert proved_by_account([with_codes, without], without), "as it was before there were codes"

    def test_who_can_be_impersonated_is_told_by_account(self) -> None:
        people = [
            operator("one", login="soc", totp="file:a"), operator("two", login="soc"),
            operator("three", login="ops", totp="file:b"), operator("four", login="ops", totp="file:c"),
            operator("five"),
        ]  # fmt: skip
        assert indistinct(people) == {"soc": ("two",)}


class TestCodes:
    @pytest.mark.parametrize(("seconds", "code"), VECTORS.items())
    def test_codes_are_those_of_rfc_6238(self, seconds: int, code: str) -> None:
        steps = around(datetime.fromtimestamp(seconds, UTC))
        assert AuthenticatorCodes().matching(RFC_KEY, code, steps) == (seconds // STEP_S,)

    @pytest.mark.parametrize("code", ["287 082", " 287082\n"])
    def test_spaces_do_not_count(self, code: str) -> None:
        assert AuthenticatorCodes().matching(RFC_KEY, code, [1]) == (1,)

    @pytest.mark.parametrize("code", ["", "28708", "2870822", "94287082", "٢٨٧٠٨٢", "\ud800", "-87082", "x" * 100_000])
    def test_anything_else_is_no_code_and_no_error(self, code: str) -> None:
        assert AuthenticatorCodes().matching(RFC_KEY, code, around(datetime.fromtimestamp(59, UTC))) == ()

    def test_a_key_has_160_random_bits_and_the_app_gets_it_with_names(self) -> None:
        codes = AuthenticatorCodes()
        key = codes.new_key()
        assert len(base64.b32decode(key.reveal())) == 20
        assert key.reveal() != codes.new_key().reveal()
        uri = codes.uri(key, "eve")
        assert uri.startswith("otpauth://totp/irflow:eve?secret=")
        assert "issuer=irflow" in uri

    @pytest.mark.parametrize("key", [b"not base32!", b"\xff\xfe", b"0189"])
    def test_what_is_no_key_is_an_error_that_does_not_repeat_it(self, key: bytes) -> None:
        with pytest.raises(ConfigurationError, match="not base32") as error:
            AuthenticatorCodes().matching(SecretValue(key), "123456", [1])
        assert key.decode("latin-1") not in str(error.value)


class TestJudging:
    def test_one_step_either_way_is_near_enough(self) -> None:
        assert (SKEW, around(NOW)) == (1, (STEP - 1, STEP, STEP + 1))
        assert around(NOW + timedelta(seconds=STEP_S - 1)) == around(NOW)
        assert around(NOW + timedelta(seconds=STEP_S))[0] == STEP

    def test_a_code_is_good_once(self) -> None:
        assert judge(Standing(), [STEP], NOW) == (Verdict.GOOD, STEP)
        assert judge(Standing(used=STEP), [STEP], NOW) == (Verdict.USED, -1)

    def test_after_a_later_code_an_earlier_one_is_used_up_too(self) -> None:
        assert judge(Standing(used=STEP + 1), [STEP], NOW) == (Verdict.USED, -1)
        assert judge(Standing(used=STEP + 1), [STEP - 1], NOW) == (Verdict.USED, -1)
        assert judge(Standing(used=STEP - 1), [STEP], NOW) == (Verdict.GOOD, STEP)

    def test_a_code_that_fits_two_steps_uses_up_the_first_that_is_left(self) -> None:
        assert judge(Standing(used=STEP - 1), [STEP - 1, STEP, STEP + 1], NOW) == (Verdict.GOOD, STEP)

    def test_no_code_is_good_while_the_name_is_locked(self) -> None:
        locked = Standing(locked_until=NOW + timedelta(seconds=1))
        assert judge(locked, [STEP], NOW) == (Verdict.LOCKED, -1)
        assert judge(locked, [STEP], NOW + timedelta(seconds=1)) == (Verdict.GOOD, STEP)


class TestTheFold:
    def test_failures_in_a_row_lock_and_count_anew_afterwards(self) -> None:
        made = events(*[refused("eve")] * MOST_FAILURES)
        early = fold(Standings(), made[:-1]).of("eve")
        assert (early.failures, early.locked_until) == (MOST_FAILURES - 1, None)
        after = fold(Standings(), made).of("eve")
        assert (after.failures, after.locked_until) == (0, made[-1].moment + LOCKED)
        again = fold(Standings(), events(*[refused("eve")] * (2 * MOST_FAILURES))).of("eve")
        assert again.locked_until == NOW + timedelta(seconds=2 * MOST_FAILURES - 1) + LOCKED

    def test_a_good_code_ends_the_row(self) -> None:
        few = [refused("eve")] * (MOST_FAILURES - 1)
        assert fold(Standings(), events(*few, proved("eve", 7), *few)).of("eve").locked_until is None

    def test_who_gives_a_used_code_again_is_not_locked_out(self) -> None:
        made = events(proved("eve", 7), *[refused("eve", "used")] * 20)
        assert fold(Standings(), made).of("eve") == Standing(used=7)

    def test_names_do_not_mix(self) -> None:
        known = fold(Standings(), events(*[refused("eve")] * MOST_FAILURES, proved("bob", 7)))
        assert (known.of("bob"), known.of("nobody")) == (Standing(used=7), Standing())

    def test_what_was_used_never_goes_back(self) -> None:
        assert fold(Standings(), events(proved("eve", 9), proved("eve", 7))).of("eve").used == 9

    def test_going_on_from_what_is_known_gives_the_same_as_reading_it_all(self) -> None:
        made = events(
            refused("eve"), proved("eve", 7), *[refused("eve")] * 3, (Kind.HALTED, {"reason": "x"}), proved("bob", 8),
            *[refused("eve")] * 3,
        )  # fmt: skip
        whole = fold(Standings(), made)
        for cut in range(len(made) + 1):
            part = fold(Standings(), made[:cut])
            assert fold(part, made[part.seq :]) == whole

    def test_other_events_of_the_system_say_nothing_of_anybody(self) -> None:
        assert fold(Standings(), events((Kind.HALTED, {"reason": "x", "operator": "eve"}))) == Standings(1, {})
