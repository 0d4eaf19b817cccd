"""Bootstrap secrets from files: mode 0600, or systemd credentials."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from irflow.core.errors import ConfigurationError, ServiceMissing
from irflow.core.secret import SecretRef, SecretValue

MOST_BYTES = 1 << 20


class FileSecrets:
    """core.secret.SecretStore for `file:` references. A relative path is looked up in $CREDENTIALS_DIRECTORY."""

    def resolve(self, ref: SecretRef) -> SecretValue:
        """The file's bytes, without a final line break.

        Raises ConfigurationError when the file is missing, not a regular file, not ours, or readable by others, and
        ServiceMissing for another scheme.
        """
        if ref.scheme != "file":
            raise ServiceMissing(f"no store for {ref.scheme}: secrets is set up", where=str(ref), hint="Use file:PATH")
        path = Path(ref.path).expanduser()
        if not path.is_absolute():
            path = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials")) / path
        try:
            with path.open("rb") as file:
                _check(os.fstat(file.fileno()), ref, path)
                return SecretValue(file.read(MOST_BYTES).rstrip(b"\r\n"))
        except OSError as error:
            raise ConfigurationError(
                f"cannot read the secret: {error.strerror}", where=str(ref), hint="Write it there with mode 0600"
            ) from None


def _check(found: os.stat_result, ref: SecretRef, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError("the secret is not a regular file", where=str(ref))
    if found.st_mode & 0o077:
        raise ConfigurationError("others can read the secret", where=str(ref), hint=f"chmod 600 {path}")
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigurationError("the secret belongs to another account", where=str(ref), hint=f"chown {path}")
