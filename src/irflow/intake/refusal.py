"""Why a request is not taken: the reasons that decide the status code of the reply."""

from __future__ import annotations

from irflow.core.errors import IrflowError


class NotAuthentic(IrflowError):
    """The sender did not prove who it is, or the message is stale. The reply never says which."""


class NotUnderstood(IrflowError):
    """The body is not what the source's kind describes. The message says where, never what stood there."""


class Conflicting(IrflowError):
    """The message id was used before, with another body."""
