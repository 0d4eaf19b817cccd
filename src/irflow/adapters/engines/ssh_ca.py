"""The authority that signs users' SSH certificates: a new one in Vault, and on its hosts the old one opens nothing.

Between the two the hosts believe both, so nobody is refused who asks Vault for a certificate. What was logged in with
an old certificate stays logged in: session.revoke ends it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, field_validator

from irflow.adapters.engines._ssh_issuers import Issuer, Issuers, Probe, plain, signer
from irflow.adapters.engines._vault import PATH, vault
from irflow.adapters.targets._ssh import CALL_S, Account, change_host
from irflow.core.errors import CheckFailed, ConfigurationError, IrflowError, OutcomeUnknown, PartlyDone
from irflow.core.inventory import SIGNED
from irflow.core.model import Noun
from irflow.core.rotation import Document, Overtaken, TargetRefused
from irflow.core.rotation_means import Means
from irflow.core.secret import SecretValue

KIND = "ssh_ca"
_SCRIPT, _PARALLEL = "ssh_ca.sh", 16
_ANSWER_S = 8.0
"""So long a host that does not answer may keep the others waiting."""
_ENOUGH_S = 60.0
"""So long a probe must still be valid when a host is asked to refuse it."""
_FILE = r"^(/[A-Za-z0-9_@%+=:,.\[\]-]+){2,}$"


class Params(Noun):
    """hosts: inventory names of those that believe the authority. user: whom the probes log in as.

    role: of the SSH engine at `mount`; it signs for `principal` (without: for `user`) and names no authority.
    file: what TrustedUserCAKeys of sshd_config says. revoked: what RevokedKeys says, where it says something.
    keep: public keys, `TYPE BASE64`, of other authorities that the hosts go on believing.
    """

    hosts: tuple[str, ...] = Field(min_length=1)
    user: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,31}$")
    role: str = Field(pattern=PATH)
    mount: str = Field(default="ssh", pattern=PATH)
    principal: str = Field(default="", max_length=256)
    file: str = Field(default="/etc/ssh/trusted_user_ca_keys", pattern=_FILE)
    revoked: str = Field(default="", pattern=rf"({_FILE})|^$")
    keep: tuple[str, ...] = ()
    key_type: str = Field(default="ed25519", pattern=r"^[a-z0-9-]{1,40}$")

    @field_validator("keep")
    @classmethod
    def _keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(one.split()) < 2 for one in value):
            raise ValueError("a public key is written as TYPE BASE64")
        return tuple(map(plain, value))


def open_engine(params: Params, means: Means) -> SshAuthority:
    """The engine that the parameters name. Nothing is connected yet. Raises ConfigurationError for an unknown host."""
    accounts = tuple(Account.find(name, params.user, means) for name in params.hosts)
    return SshAuthority(params, Issuers(vault(means), params.mount), accounts)


@dataclass(frozen=True)
class _Before:
    """What was in use: the authority, and a probe of it."""

    issuer: Issuer
    probe: Probe

    def write(self) -> SecretValue:
        """As irflow's notes keep it until it is dead."""
        probe = self.probe.value.reveal().decode()
        return SecretValue(json.dumps({**vars(self.issuer), "probe": probe}).encode())

    @classmethod
    def read(cls, value: SecretValue) -> _Before:
        """What `write` wrote."""
        noted = json.loads(value.reveal())
        return cls(Issuer(noted["id"], noted["name"], noted["public"]), Probe.parse(noted["probe"]))


@dataclass
class _Rounds:
    """One step after the other, each on all hosts at once; a host that failed one takes part in no later one."""

    accounts: tuple[Account, ...]
    failed: dict[str, IrflowError] = field(default_factory=dict)

    def each(self, work: Callable[[Account], object]) -> None:
        """Raises Overtaken when another rotation has taken over."""
        left = [one for one in self.accounts if one.host.name not in self.failed]
        with ThreadPoolExecutor(_PARALLEL, "ssh-ca") as pool:
            for one, error in zip(left, pool.map(lambda account: _error(work, account), left), strict=True):
                if isinstance(error, Overtaken):
                    raise error
                if error is not None:
                    self.failed[one.host.name] = error

    def none_refused(self) -> None:
        """Raise what the first host said that will say the same again."""
        for error in self.failed.values():
            if isinstance(error, (TargetRefused, ConfigurationError)):
                raise error

    def all_done(self) -> None:
        """Raise PartlyDone with the hosts that failed; the error itself when none is done."""
        if not self.failed:
            return
        if len(self.failed) == len(self.accounts):
            raise next(iter(self.failed.values()))
        said = "; ".join(f"{name}: {error.message}" for name, error in sorted(self.failed.items()))
        raise PartlyDone(f"the old authority may still open {said}", hint="When they answer: irflow secrets sweep")


@dataclass(frozen=True)
class SshAuthority:
    """core.engine_rotation.Engine. The new authority's private key is made in Vault and never leaves it."""

    params: Params
    issuers: Issuers
    accounts: tuple[Account, ...]
    overlap: bool = True
    meanwhile: str = "served; afterwards every certificate from before is refused, ask Vault for another"

    def before(self) -> SecretValue:
        """The authority, and a probe that gets in on every host that answers: else its refusal would prove nothing.

        Raises ConfigurationError when a host refuses it, believes somebody unknown, or is reached by irflow itself with
        a certificate of this authority.
        """
        issuer = self.issuers.default()
        self._spare_irflow(issuer)
        found = _Before(issuer, self._probe(issuer))
        rounds = self._reached()
        rounds.each(lambda one: self._check_host(one, found))
        rounds.none_refused()
        if len(rounds.failed) == len(self.accounts):
            rounds.all_done()
        return found.write()

    def replace(self, before: SecretValue, document: Document) -> None:
        """A new authority, believed beside the old one, proved, believed alone; the old one refused, then forgotten.

        A host that does not answer keeps the old one, and is named at the end; the others are not kept waiting for it.
        """
        was = _Before.read(before)
        new = self.issuers.make(f"after-{was.issuer.id}", self.params.key_type)
        rounds = self._reached()
        known = [argument for one in (was.issuer.public, *self.params.keep) for argument in ("--known", _packed(one))]
        rounds.each(lambda one: self._change(one, "add", document, [*_keys(new.public), *known]))
        rounds.none_refused()
        if len(rounds.failed) == len(self.accounts):
            rounds.all_done()
        self._lock_out_nobody(rounds, was)
        self.issuers.choose(new)
        probe = self._probe(new)
        rounds.each(lambda one: self._must_admit(one, probe))
        rounds.each(lambda one: self._change(one, "only", document, _keys(new.public, *self.params.keep)))
        if self.params.revoked:
            rounds.each(lambda one: self._change(one, "revoke", document, _keys(was.issuer.public), revoked=True))
        if was.issuer.id in self.issuers.there():  # it is forgotten only after this was proved
            old = was.probe if was.probe.lasts(_ENOUGH_S) else self._probe_again(was.issuer, new)
            rounds.each(lambda one: self._must_refuse(one, old))
            rounds.all_done()
            self.issuers.delete(was.issuer.id)
        rounds.all_done()

    def works(self) -> bool:
        """Whether a certificate that Vault signs now logs in on every host."""
        probe = self._probe(self.issuers.default())
        rounds = _Rounds(self.accounts)
        rounds.each(lambda one: self._must_admit(one, probe))
        for error in rounds.failed.values():
            if not isinstance(error, CheckFailed):
                raise error
        return not rounds.failed

    def alive(self, before: SecretValue) -> str:
        """Where the old authority is still believed, or its probe lets somebody in."""
        was = _Before.read(before)
        kept = ["the old authority is in Vault"] if was.issuer.id in self.issuers.there() else []
        with ThreadPoolExecutor(_PARALLEL, "ssh-ca") as pool:
            return ", ".join(filter(None, [*kept, *pool.map(lambda one: self._alive_on(one, was), self.accounts)]))

    def _reached(self) -> _Rounds:
        """The hosts, of which those have failed already that nobody can connect to."""
        rounds = _Rounds(self.accounts)
        rounds.each(lambda one: one.shell.connect(one.host, timeout_s=_ANSWER_S))
        return rounds

    def _lock_out_nobody(self, rounds: _Rounds, was: _Before) -> None:
        """Raise PartlyDone for a host that did not answer and would not let irflow in again to hear of the new."""
        mine = f"{SIGNED}{self.params.mount}/sign/"
        hosts = [one.host for one in self.accounts if one.host.name in rounds.failed]
        lost = [host.name for host in hosts if (host.certificate or "").startswith(mine)]
        if lost and self.issuers.default().id == was.issuer.id:
            names = ", ".join(lost)
            raise PartlyDone(
                f"the old authority still signs: {names} did not answer, and irflow has no other way in there",
                hint="When they answer: irflow secrets sweep; or give irflow a key of its own there",
            )

    def _alive_on(self, one: Account, was: _Before) -> str:
        if _packed(was.issuer.public) in self._believed(one):
            return f"{one.host.name} believes the old authority"
        if was.probe.lasts(0) and one.admits(was.probe.value, "certificate"):
            return f"{one.host.name} lets an old certificate in"
        return ""

    def _spare_irflow(self, issuer: Issuer) -> None:
        for one in self.accounts:
            path = one.host.certificate
            if path is None or path.startswith(SIGNED):  # signed anew at each login
                continue
            try:
                own = signer(Path(path).expanduser().read_bytes()) == issuer.public
            except (OSError, ValueError):
                continue  # whoever logs in with it says what is wrong
            if own:
                raise ConfigurationError(
                    "irflow itself logs in with a certificate of this authority", where=one.host.name,
                    hint=f"It would be locked out. Write there, certificate: vault:{self.params.mount}/sign/ROLE",
                )  # fmt: skip

    def _check_host(self, one: Account, found: _Before) -> None:
        known = {_packed(key) for key in (found.issuer.public, *self.params.keep)}
        strange = sorted(self._believed(one) - known)
        if strange:
            raise ConfigurationError(
                f"the host believes an authority that irflow was not told of: {strange[0]}", where=one.host.name,
                hint=f"Name it under keep, or take it out of {self.params.file}: it may be an attacker's",
            )  # fmt: skip
        if not one.admits(found.probe.value, "certificate"):
            raise ConfigurationError(
                f"the host refuses {self.params.user} with a certificate of the authority that is to be replaced",
                where=one.host.name,
                hint=f"Does TrustedUserCAKeys name {self.params.file}, and may the role sign for the principal?",
            )  # fmt: skip

    def _believed(self, one: Account) -> set[str]:
        arguments = ["show", "--file", self.params.file]
        return set(one.shell.run(one.host, _SCRIPT, arguments, timeout_s=CALL_S).text.split())

    def _change(
        self, one: Account, verb: str, document: Document, keys: Iterable[str], *, revoked: bool = False
    ) -> None:
        file = self.params.revoked if revoked else self.params.file
        change_host(one.shell, one.host, _SCRIPT, verb, document, ["--file", file, *keys])

    def _must_admit(self, one: Account, probe: Probe) -> None:
        if not one.admits(probe.value, "certificate"):
            raise CheckFailed("a certificate of the new authority is refused", where=one.host.name)

    def _must_refuse(self, one: Account, probe: Probe) -> None:
        if one.admits(probe.value, "certificate"):
            raise CheckFailed("a certificate of the old authority still gets in", where=one.host.name)
        if not probe.lasts(0):
            raise OutcomeUnknown("the probe ran out meanwhile", where=one.host.name)

    def _probe(self, by: Issuer) -> Probe:
        return self.issuers.sign(self.params.role, self.params.principal or self.params.user, by)

    def _probe_again(self, old: Issuer, new: Issuer) -> Probe:
        """Another probe of the old authority, which has to sign again for that, for some milliseconds."""
        self.issuers.choose(old)
        try:
            return self._probe(old)
        finally:
            self.issuers.choose(new)


def _error(work: Callable[[Account], object], account: Account) -> IrflowError | None:
    try:
        work(account)
    except IrflowError as error:
        return error
    return None


def _packed(public: str) -> str:
    return ":".join(public.split()[:2])


def _keys(*publics: str) -> list[str]:
    return [argument for one in publics for argument in ("--key", _packed(one))]
