"""What irflow's page is built from: the files of its operators, its key and its templates."""

from __future__ import annotations

from collections.abc import Callable

from irflow.adapters.catalog import WatchedOperators
from irflow.adapters.document_store import FileDocumentStore
from irflow.adapters.made_key import made_key
from irflow.adapters.operator_tokens import OperatorTokens
from irflow.adapters.templates import TemplatePages
from irflow.config import Settings
from irflow.core.approvals import Operator
from irflow.shipped import shipped
from irflow.wiring import Configuration


def operator_tokens(settings: Settings) -> OperatorTokens:
    """By which operators log in."""
    return OperatorTokens(settings.state / "operator-tokens.json")


def operators_now(config: Configuration) -> Callable[[], tuple[Operator, ...]]:
    """The operators as operators.yaml has them at each moment."""
    return WatchedOperators(config.settings.home / "operators.yaml", config.operators)


def document_store(settings: Settings) -> FileDocumentStore:
    """Where documents lie."""
    return FileDocumentStore(settings.documents)


def session_key(settings: Settings) -> bytes:
    """By which sessions are signed; deleting its file logs everybody out."""
    return made_key(settings.state / "web-session.key")


def page_templates() -> TemplatePages:
    """The page's own templates."""
    return TemplatePages(shipped("templates") / "web")
