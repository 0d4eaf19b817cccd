"""Who proves who somebody is."""

from __future__ import annotations

from irflow.adapters.one_time import AuthenticatorCodes
from irflow.core.identity import Identities
from irflow.core.ports import Store, SystemClock
from irflow.core.proving import CodeIdentities
from irflow.wiring import Configuration
from irflow.wiring.secrets import secret_store


def identities(config: Configuration, store: Store) -> Identities:
    """Proofs by one-time codes, whose keys are where `totp` in operators.yaml says. store: the installation's."""
    return CodeIdentities(
        config.operators, secret_store(config.settings), store, AuthenticatorCodes(), SystemClock()
    )  # fmt: skip
