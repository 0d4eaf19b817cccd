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

        Raises ConfigurationError when the file is missing, not a regular file, owned by another account than ours or
        root, open to group or others, or larger than 1 MiB; ServiceMissing for another scheme.
        """
        if ref.scheme != "file":
            raise ServiceMissing(
                f"nothing here reads {ref.scheme}: references", where=str(ref), hint="Use file:PATH, mode 0600"
            )
        path = _place(ref)
        try:
            # Not blocking: opening a pipe would wait for a writer.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                _check(os.fstat(file.fileno()), ref, path)
                content = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(
                f"the secret cannot be read: {(error.strerror or '').lower()}",
                where=str(ref),
                hint="Write it there with mode 0600",
            ) from None
        if len(content) > MOST_BYTES:
            raise ConfigurationError("the secret is larger than 1 MiB", where=str(ref), hint="Is this the right file?")
        return SecretValue(content.removesuffix(b"\n").removesuffix(b"\r"))


def _place(ref: SecretRef) -> Path:
    path = Path(ref.path).expanduser()
    if path.is_absolute():
        return path
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ConfigurationError(
            "a relative path means a systemd credential, and $CREDENTIALS_DIRECTORY is not set",
            where=str(ref),
            hint="Write an absolute path, or start irflow from a unit with LoadCredential=",
        )
    return Path(folder) / path


def _check(found: os.stat_result, ref: SecretRef, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError("the secret is not a regular file", where=str(ref), hint="Write it to a plain file")
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigurationError(
            f"the secret belongs to another account, uid {found.st_uid}", where=str(ref), hint=f"chown {path}"
        )
    if found.st_mode & 0o077:
        raise ConfigurationError(
            f"others can read the secret, its mode is {stat.S_IMODE(found.st_mode):04o}",
            where=str(ref),
            hint=f"chmod 600 {path}, and replace the secret if others have an account here",
        )


def write_secret(ref: SecretRef, value: SecretValue) -> None:
    """Put a value into the file of a `file:` reference: at once and durable, owner and mode as they were, else 0600.

    Raises ConfigurationError when the file cannot be written.
    """
    path = _place(ref)
    temporary = path.with_name(f".{path.name}.irflow")
    try:
        before = path.stat() if path.exists() else None
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            if before:
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            file.write(value.reveal())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigurationError(
            f"the copy cannot be written: {(error.strerror or '').lower()}", where=str(ref),
            hint="Mend that, then: irflow secrets sweep",
        ) from None  # fmt: skip
