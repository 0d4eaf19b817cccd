"""One-time codes with pyotp: RFC 6238 with SHA-1, 6 digits and 30 s, which is what authenticator apps do."""

from __future__ import annotations

import binascii
import hmac
from collections.abc import Iterable

import pyotp

from irflow.core.errors import ConfigurationError
from irflow.core.one_time import STEP_S
from irflow.core.secret import SecretValue

DIGITS = 6
KEY_CHARACTERS = 32
"""Base32 of 160 bits."""
ISSUER = "irflow"
"""How apps name where a code belongs."""


class AuthenticatorCodes:
    """core.one_time.OneTimeCodes."""

    def matching(self, key: SecretValue, code: str, steps: Iterable[int]) -> tuple[int, ...]:
        """The time steps whose code this is. Spaces in it, as apps show them, do not count."""
        given = "".join(code.split()).encode("utf-8", "replace")
        found = []
        try:
            for step in steps:  # to the end, and each in constant time
                if hmac.compare_digest(_totp(key).generate_otp(step).encode(), given):
                    found.append(step)
        except (binascii.Error, ValueError):
            raise ConfigurationError(
                "the key of the one-time codes is not base32",
                hint="Give the operator a new one: irflow operators add NAME --new-key",
            ) from None
        return tuple(found)

    def new_key(self) -> SecretValue:
        """160 random bits in base32."""
        return SecretValue(pyotp.random_base32(KEY_CHARACTERS).encode())

    def uri(self, key: SecretValue, name: str) -> str:
        """`otpauth://totp/irflow:NAME?secret=...&issuer=irflow`."""
        return _totp(key).provisioning_uri(name=name, issuer_name=ISSUER)


def _totp(key: SecretValue) -> pyotp.TOTP:
    return pyotp.TOTP(key.reveal().decode("ascii"), digits=DIGITS, interval=STEP_S)
