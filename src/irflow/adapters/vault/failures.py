"""What can go wrong with a Vault, by name, and what to do about each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import hvac.exceptions
import requests.exceptions

from irflow.core.errors import ConfigurationError, DeadlineExceeded, IrflowError, Refused, ServiceMissing
from irflow.core.rotation import Overtaken


class VaultUnreachable(ServiceMissing):
    """Nothing answers, or something that is not Vault."""


class VaultUntrusted(ServiceMissing):
    """The server's certificate is not signed by the authority that irflow.yaml names; nothing was sent."""


class VaultSealed(ServiceMissing):
    """The server runs but has no key to its data."""


class VaultFailing(ServiceMissing):
    """The server answers every call with an error of its own, as with a full audit disk."""


class VaultTooOld(Refused):
    """What was encrypted was encrypted with a version of the key that opens nothing any more."""


class VaultDenied(Refused):
    """The policy does not allow it."""


class VaultLoginFailed(Refused):
    """The role or its secret-id is not accepted."""


class VaultPathMissing(ConfigurationError):
    """There is nothing at the path, or all of it was deleted."""


class VaultSlow(DeadlineExceeded):
    """No answer in time; whether it was done is unknown."""


class TokenDead(IrflowError):
    """The token is expired, revoked or used up. Log in again, once."""


@contextmanager
def named(where: str) -> Iterator[None]:
    """Turn what hvac and requests raise into irflow's errors. where: the path. No message repeats a value."""
    try:
        yield
    except requests.exceptions.SSLError:
        raise VaultUntrusted(
            "the certificate of Vault is not trusted", where=where, hint="Put its authority's certificate at vault.ca"
        ) from None
    except requests.exceptions.ConnectionError:
        raise VaultUnreachable(
            "Vault does not answer", where=where, hint="Is it running? To try things out: irflow vault up"
        ) from None
    except requests.exceptions.Timeout:
        raise VaultSlow("Vault did not answer in time", where=where, hint="Look at its load, then try again") from None
    except hvac.exceptions.VaultDown:
        raise VaultSealed(
            "Vault is sealed", where=where, hint="Unseal it (vault operator unseal), see secrets/README.md"
        ) from None
    except hvac.exceptions.InvalidPath:
        raise VaultPathMissing(
            "there is nothing there", where=where, hint="Check the mount and the path: vault kv list"
        ) from None
    except hvac.exceptions.InvalidRequest as error:
        raise _invalid(error, where) from None
    except hvac.exceptions.Forbidden:
        raise VaultDenied(
            "Vault's policy does not allow it", where=where, hint="Compare with secrets/policies/responder.hcl"
        ) from None
    except requests.exceptions.RequestException as error:
        raise VaultUnreachable(
            f"no answer of a Vault ({type(error).__name__})", where=where, hint="See vault.url in irflow.yaml"
        ) from None
    except hvac.exceptions.VaultError as error:
        raise VaultFailing(
            f"Vault failed ({type(error).__name__})", where=where,
            hint="Look at its log; a full audit disk fails every call until there is space",
        ) from None  # fmt: skip


def _invalid(error: hvac.exceptions.InvalidRequest, where: str) -> IrflowError:
    """What a 400 means can only be told by its text."""
    said = str(error)
    if "check-and-set" in said:
        return Overtaken("somebody else changed it", where=where, hint="Try again; it goes on from what is there now")
    if "role or secret ID" in said:
        return VaultLoginFailed(
            "Vault refuses irflow's role or secret-id", where=where, hint="Issue a new one, see secrets/README.md"
        )
    if "too old" in said:
        return VaultTooOld("this version of the key opens nothing any more", where=where, hint="See min_decryption")
    if "HTTPS server" in said:
        return VaultUnreachable("Vault speaks HTTPS here", where=where, hint="Write https:// in vault.url")
    return VaultFailing("Vault does not take this request", where=where, hint="Look at its log")
