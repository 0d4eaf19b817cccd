"""`account.disable`: cut off every way into an account, and every way to come back; undo brings back what was."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from hashlib import sha256
from typing import Any, ClassVar

from pydantic import Field, field_validator

from irflow.actions._accounts import MOST, Account, Item, account_names, refuse_accounts
from irflow.actions._remote import call, fields
from irflow.core.action import Action, Change, Check, Context, Params, Proof
from irflow.core.errors import HostError, Refused
from irflow.core.model import Json

SCRIPT = "account.sh"
_CALL_S = 60.0
"""Ending processes takes up to some seconds where something starts them again and again."""
_KINDS = {"keys": "key file", "cron": "crontab", "at": "at job"}
_ELSEWHERE = "it comes from a directory (LDAP, SSSD ...), not from the host's /etc/passwd: disable it there"
_BY_HAND = "changed_meanwhile"


class DisableParams(Params):
    """host: inventory name. accounts: names of accounts of the host, at most 100."""

    host: str
    accounts: tuple[str, ...] = Field(min_length=1, max_length=MOST)

    @field_validator("accounts")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return account_names(value)


class AccountDisable(Action[DisableParams]):
    """Lock and expire accounts; put their keys, crontabs, at jobs and linger aside; end all that they run.

    Undo brings back everything byte for byte, with owner, mode and time, once no other incident needs the account
    disabled. What somebody else had disabled before stays disabled; what was changed meanwhile is newer, and stays.
    """

    name: ClassVar[str] = "account.disable"
    summary: ClassVar[str] = "Disable accounts: password, keys, certificates, jobs, sessions and processes"
    Params: ClassVar[type[Any]] = DisableParams

    def observe(self, params: DisableParams, context: Context) -> dict[str, Json]:
        """What lets each account in. Raises Refused, or HostError when the host has none of them."""
        refuse_accounts(params.accounts, context)
        host = context.the_host().name
        found = _look(context, params.accounts)
        for one in found:
            why = "its number is 0, it is root" if one.uid == 0 else "the responder's own session is its" * one.carries
            if why:
                raise Refused(f"{one.name} is never disabled: {why}", where=host, hint="Leave it out")
            if one.kind == "local" and not one.shadow:
                hint = "Look at pwconv(8) on the host; until then session.revoke ends its sessions"
                raise HostError(f"{one.name} has no line in /etc/shadow, so it cannot expire", where=host, hint=hint)
        if all(one.kind == "none" for one in found):
            names = " or ".join(params.accounts)
            raise HostError(f"there is no account {names}", where=host, hint="Look at getent passwd on the host")
        mark = f"{context.incident.id} {context.step.key}"
        return {
            "accounts": [one.to_facts() for one in found],
            "id": sha256(mark.encode()).hexdigest()[:12],
            "holder": sha256(context.incident.id.encode()).hexdigest()[:12],
        }

    def plan(self, params: DisableParams, seen: dict[str, Json]) -> tuple[Change, ...]:
        """One change for each account that is not shut yet, or is so only for another incident."""
        changes = []
        missing = [one["name"] for one in seen["accounts"] if one["kind"] == "none"]
        for one in seen["accounts"]:
            shut = one["locked"] and one["expired"] and not one["items"] and not one["alive"]
            if one["kind"] != "local" or (shut and (not one["holders"] or seen["holder"] in one["holders"])):
                continue
            data = {"account": one["name"], "uid": one["uid"], "id": seen["id"], "holder": seen["holder"]}
            text = f"keep {one['name']} on {params.host} disabled, as it is" if shut else _summary(params.host, one)
            changes.append(Change(text + _missing(missing), {**data, "before": _before(one)}))
            missing = []
        return tuple(changes)

    def apply(self, change: Change, context: Context) -> dict[str, Json]:
        """Shut one account."""
        said = _mutate(context, "disable", change.data)
        stays = [line.partition("=")[2] for line in said.splitlines() if line.startswith("stays=")]
        return {"account": change.data["account"], "ended": int(fields(said).get("killed", 0)), "stays": stays}

    def verify(
        self, params: DisableParams, seen: dict[str, Json], applied: tuple[dict[str, Json], ...], context: Context
    ) -> Proof:
        """Look over a new connection."""
        found, checks = _look(context, params.accounts, fresh=True), []
        stays = {one["account"]: "; ".join(one["stays"]) for one in applied}
        before = {one["name"]: one for one in seen["accounts"]}
        for one in found:
            if one.kind == "none":
                continue
            if one.kind == "directory":
                checks.append(Check(f"{one.name} is disabled", False, "", _ELSEWHERE))
                continue
            was = before[one.name]
            kept = _counted(asdict(item) for item in one.items)
            why = f": {stays[one.name]}" if stays.get(one.name) else ""
            checks += [
                Check(
                    f"{one.name} is locked and expired: no password, key or certificate logs in",
                    one.locked and one.expired, _state(was), one.state,
                ),
                Check(
                    f"nothing lets {one.name} back in: no keys, crontab, at job or linger", not one.items,
                    _counted(was["items"]) or "nothing", f"{kept}{why}" if kept else "nothing",
                ),
                Check(f"nothing of {one.name} runs", not one.processes, _alive(was), one.running),
            ]  # fmt: skip
        facts: dict[str, Json] = {
            "accounts": {one.name: one.state if one.kind == "local" else one.kind for one in found},
            "missing": [one.name for one in found if one.kind == "none"],
            "ended": {one["account"]: one["ended"] for one in applied},
            "boxed": {one.name: list(one.boxed) for one in found if one.boxed},
        }
        return Proof(tuple(checks), facts)

    def undo(self, change: Change, context: Context) -> Proof:
        """Bring one account back as it was, and prove it; what was changed meanwhile is newer and stays."""
        data, said = change.data, _mutate(context, "enable", change.data)
        name, raw = data["account"], fields(said)
        (now,) = _look(context, (name,), fresh=True)
        if raw.get("was") == "held":
            kept = now.locked and now.expired
            check = Check(f"{name} stays disabled: another incident needs it too", kept, "", now.state)
            return Proof((check,), {"accounts": {name: now.state}, "restored": "held by another incident"})
        meanwhile = [line.partition("=")[2] for line in said.splitlines() if line.startswith("meanwhile=")]
        gone = _may_have_run(data["before"], said, context)
        checks = _restored(data["before"], now, meanwhile, gone)
        facts: dict[str, Json] = {
            "accounts": {name: now.state}, "restored": _BY_HAND if meanwhile else "byte for byte",
            "changed_meanwhile": meanwhile, **({"left": raw["left"]} if "left" in raw else {}),
        }  # fmt: skip
        return Proof(checks, facts)


# ---------------------------------------------------------------- what is said about it


def _before(one: dict[str, Json]) -> dict[str, Json]:
    """What undo has to bring back: what the host wrote down before irflow touched it, else what is there now."""
    was = "was_" if one["holders"] else ""
    paths = {item["path"] for item in one["was_items"]}
    return {
        **{key: one[f"{was}{key}"] for key in ("locked", "expired", "shadow", "passwd")},
        "items": [*one["was_items"], *(item for item in one["items"] if item["path"] not in paths)],
        "alive": one["alive"],
    }  # fmt: skip


def _summary(host: str, one: dict[str, Json]) -> str:
    """`disable deploy on web-1: password and certificates, 2 key files, 1 crontab; ends 3 processes`."""
    ways = ", ".join(filter(None, ["password and certificates", _counted(one["items"])]))
    ends = f"; ends {_alive(one)}" if one["alive"] else ""
    notes = [
        *(["a system account: services may run as it"] if one["system"] else []),
        *([f"its number is also that of {', '.join(one['shares'])}"] if one["shares"] else []),
        *([_boxed(len(one["boxed"]))] if one["boxed"] else []),
        *(["somebody else disabled it before, and it stays so after undo"] if _shut_before(one) else []),
    ]
    return f"disable {one['name']} on {host}: {ways}{ends}" + (f" ({'; '.join(notes)})" if notes else "")


def _boxed(count: int) -> str:
    if count == 1:
        return "1 process of containers has its number, and stays"
    return f"{count} processes of containers have its number, and stay"


def _shut_before(one: dict[str, Json]) -> bool:
    before = _before(one)
    return bool(before["locked"] and before["expired"])


def _missing(names: list[str]) -> str:
    return f" (there is no account {', '.join(names)})" if names else ""


def _counted(items: Iterable[dict[str, Json]]) -> str:
    """`2 key files, 1 crontab`; empty for nothing."""
    found = Counter(item["kind"] for item in items)
    counted = [f"{found[kind]} {word}{'s' * (found[kind] > 1)}" for kind, word in _KINDS.items() if found[kind]]
    return ", ".join([*counted, *(["linger"] if found["linger"] else [])])


def _alive(one: dict[str, Json]) -> str:
    count = one["alive"]
    return f"{count} process{'es' * (count != 1)}" if count else "nothing"


def _state(one: dict[str, Json]) -> str:
    return f"{'locked' if one['locked'] else 'not locked'}, {'expired' if one['expired'] else 'not expired'}"


def _restored(before: dict[str, Json], now: Account, meanwhile: list[str], gone: set[str]) -> tuple[Check, ...]:
    """Line by line and file by file, against what the journal has; a difference counts only if nobody else made it.

    gone: at jobs that came back and may have run since.
    """
    name, why, same = now.name, f"{_BY_HAND}: {'; '.join(meanwhile)}", "byte for byte"
    lines = (
        (f"the line of {name} in /etc/shadow is as before", now.shadow == before["shadow"]),
        (f"the line of {name} in /etc/passwd is as before", now.passwd == before["passwd"]),
    )
    checks = [Check(text, good or bool(meanwhile), "", same if good else why) for text, good in lines]
    here = [asdict(item) for item in now.items]
    missing = [item["path"] for item in before["items"] if item not in here]
    lost, ran = [one for one in missing if one not in gone], [one for one in missing if one in gone]
    said = f"{_counted(before['items']) or 'nothing'}, {same}" if not lost else f"{', '.join(lost)} not"
    said += f" ({len(ran)} of them due, and run since)" if ran else ""
    said += f", {why}" if lost and meanwhile else ""
    text = f"keys, crontab, at jobs and linger of {name} are as before"
    return (*checks, Check(text, not lost or bool(meanwhile), "put aside", said))


def _may_have_run(before: dict[str, Json], said: str, context: Context) -> set[str]:
    """Paths of at jobs that the host says it brought back or, when an earlier try did, that are due by now.

    The last eight digits of a job's name are the minute it is due (at's own source, at.c).
    """
    back = [asdict(Item.read(line[5:])) for line in said.splitlines() if line.startswith("back=")]
    jobs = [one for one in before["items"] if one["kind"] == "at"]
    if fields(said).get("was") != "absent":
        return {one["path"] for one in jobs if one in back}
    minute = context.ports.clock.now().timestamp() / 60
    due = re.compile(r"[0-9a-f]{8}")
    return {one["path"] for one in jobs if due.fullmatch(one["path"][-8:]) and int(one["path"][-8:], 16) <= minute}


# ---------------------------------------------------------------- the host


def _look(context: Context, accounts: tuple[str, ...], *, fresh: bool = False) -> tuple[Account, ...]:
    """Read the accounts, in the order asked for."""
    said = call(context, SCRIPT, ["status", "--accounts", ",".join(accounts)], fresh=fresh).text
    return tuple(Account.read(block) for block in re.split(r"^account=", said, flags=re.MULTILINE)[1:])


def _mutate(context: Context, verb: str, data: dict[str, Json]) -> str:
    """Call a verb that changes the host, with the epoch that makes late callers harmless."""
    step = re.sub(r"[^A-Za-z0-9_@%+=:,./\[\]-]", "_", context.step.key)
    everything = [verb, "--epoch", str(context.epoch), "--step", step, "--id", data["id"], "--holder", data["holder"]]
    return call(context, SCRIPT, [*everything, "--account", data["account"]], timeout_s=_CALL_S).text
