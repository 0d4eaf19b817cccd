"""Which part of a path is the mount: its first word, unless Vault says that the mount's name has slashes."""

from __future__ import annotations


class Mounts:
    """Those with slashes that Vault has told of. A mount never lies inside another, so there is one answer."""

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset()

    def split(self, path: str) -> tuple[str, str]:
        """The mount and what is below it, as far as is known."""
        for one in self._known:
            if path.startswith(f"{one}/"):
                return one, path.removeprefix(f"{one}/")
        mount, _, below = path.partition("/")
        return mount, below

    def learn(self, name: str) -> None:
        """Note the name of a mount, as Vault writes it."""
        self._known |= {name.strip("/")}
