"""A secret reference as a field of a model, so that what is none is told at its line of the file."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from irflow.core.errors import ConfigurationError
from irflow.core.secret import SecretRef


def _checked(text: str) -> str:
    try:
        SecretRef.parse(text)
    except ConfigurationError as error:  # as a ValueError it keeps its place in the file
        raise ValueError(str(error)) from None
    return text


Reference = Annotated[str, AfterValidator(_checked)]
"""The text of one, `vault:MOUNT/path#field`, `keyring:SERVICE/USER` or `file:PATH`."""
