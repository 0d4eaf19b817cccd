"""`irflow keyring`: the keyring that irflow.yaml names; values go in, and never come out on a screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from irflow.cli.output import configuration, dump, say, table
from irflow.cli.person import Json

if TYPE_CHECKING:
    from irflow.adapters.keyring.encrypted_file import EncryptedFileKeyring

app = typer.Typer(no_args_is_help=True)

Entry = Annotated[str, typer.Argument(metavar="SERVICE/USER", help="As in keyring:SERVICE/USER.")]


@app.command("set")
def set_(entry: Entry) -> None:
    """Store a value from standard input, in place of what is there. Example: irflow keyring set irflow/mail < url"""
    from irflow.cli.value import given_value

    service, user = _parts(entry)
    value = given_value(f"irflow keyring set {entry}")
    with _own(entry) as own:
        own.set_password(service, user, value)
    say(f"keyring:{entry} is set")


@app.command("list")
def list_(json: Json = False) -> None:
    """List service and user of every entry; no value. Example: irflow keyring list --json"""
    with _own() as own:
        found = own.list_credentials()
    if json:
        dump([{"service": service, "user": user} for service, user in found])
    elif found:
        table("", ("reference",), [(f"keyring:{service}/{user}",) for service, user in found])
    else:
        say("The keyring is empty")


@app.command()
def delete(entry: Entry) -> None:
    """Forget one entry. Example: irflow keyring delete irflow/mail"""
    from irflow.core.errors import UsageError

    service, user = _parts(entry)
    with _own(entry) as own:
        found = own.forget(service, user)
    if not found:
        raise UsageError(f"the keyring has no {entry}", hint="irflow keyring list")
    say(f"keyring:{entry} is gone")


@app.command()
def rekey(
    new: Annotated[Path, typer.Argument(metavar="FILE", help="With the new master key, mode 0600.")],
) -> None:
    """Encrypt it with another master key; then put FILE where `keyring.key` says. Example: irflow keyring rekey FILE"""
    from irflow.core.secret import SecretRef
    from irflow.wiring.secrets import file_secret

    key = SecretRef("file", str(new.absolute()))
    with _own() as own:
        own.rekey(lambda: file_secret(key))
    say(f"only {new} opens the keyring now")


@contextmanager
def _own(entry: str = "") -> Iterator[EncryptedFileKeyring]:
    """The keyring of irflow itself. Raises ConfigurationError where irflow.yaml names none or another one."""
    from irflow.adapters.keyring.encrypted_file import EncryptedFileKeyring
    from irflow.adapters.keyring.secrets import named
    from irflow.core.errors import ConfigurationError
    from irflow.wiring.secrets import open_keyring

    settings = configuration().settings.keyring
    hint = "Write keyring: {backend: encrypted-file}; another keyring has tools of its own"
    if settings is None:
        raise ConfigurationError("it names no keyring", where="irflow.yaml", hint=hint)
    backend = open_keyring(settings)
    if not isinstance(backend, EncryptedFileKeyring):
        raise ConfigurationError(f"{settings.backend} is not irflow's own keyring", where="irflow.yaml", hint=hint)
    with named(f"keyring:{entry}" if entry else str(settings.file)):
        yield backend


def _parts(entry: str) -> tuple[str, str]:
    from irflow.core.errors import UsageError

    service, _, user = entry.rpartition("/")
    if not service or not user:
        raise UsageError(f"{entry!r} is not SERVICE/USER", hint="As in irflow/mail")
    return service, user
