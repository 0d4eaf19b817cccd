"""Bootstrap secrets from this process's environment, where whoever starts irflow can put them nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping

from irflow.core.errors import ConfigurationError
from irflow.core.secret import ENVIRONMENT, SecretRef, SecretValue


class EnvironmentSecrets:
    """core.secret.SecretStore for `env:` references."""

    def resolve(self, ref: SecretRef) -> SecretValue:
        """The variable's value. Raises ConfigurationError where it is not set."""
        value = os.environ.get(ref.path)
        if not value:
            raise ConfigurationError(
                "the variable is not set", where=str(ref), hint="Set it where irflow is started, or use file:PATH"
            )
        return SecretValue(os.fsencode(value))


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What programs that are not irflow get of an environment."""
    return {name: value for name, value in environment.items() if not name.startswith(ENVIRONMENT)}
