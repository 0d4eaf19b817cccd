"""Who proves who somebody is."""

from __future__ import annotations

from irflow.adapters.one_time import AuthenticatorCodes
from irflow.adapters.operator_tokens import OperatorTokens
from irflow.config import Settings
from irflow.core.identity import Identities
from irflow.core.incident import SYSTEM
from irflow.core.one_time import Standings, fold
from irflow.core.ports import Store, SystemClock
from irflow.core.proving import CodeIdentities
from irflow.wiring import Configuration
from irflow.wiring.secrets import secret_store


def identities(config: Configuration, store: Store) -> Identities:
    """Proofs by one-time codes, whose keys are where `totp` in operators.yaml says. store: the installation's."""
    return CodeIdentities(
        config.operators, secret_store(config.settings), store, AuthenticatorCodes(), SystemClock()
    )  # fmt: skip


def operator_tokens(settings: Settings) -> OperatorTokens:
    """The tokens of irflow's page."""
    return OperatorTokens(settings.state / "operator-tokens.json")


def standings(store: Store) -> Standings:
    """What the journal says of codes: who is locked out."""
    return fold(Standings(), store.events(SYSTEM))
