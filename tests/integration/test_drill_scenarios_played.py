"""Each scenario beyond the first is played through the whole stack, and fails when its containment does nothing."""

from __future__ import annotations

import json

import pytest

from tests.integration.drill_command import irflow, left, short_folder

pytestmark = pytest.mark.timeout(420)


@pytest.mark.parametrize(
    ("scenario", "hosts", "attack_ends"),
    [
        ("brute-force", 1, "attacker's new login on web-1"),
        ("compromised-account", 1, "login with the stolen key on web-1"),
        ("lateral-movement", 3, "new hop from web-1 on web-3"),
    ],
)
def test_the_drill_passes_through_the_whole_stack(scenario: str, hosts: int, attack_ends: str) -> None:
    with short_folder() as tmp:
        done = irflow("drill", scenario, "--json", tmp / "card.json", tmp=tmp)
        assert done.code == 0, done.out + done.err
        card = json.loads((tmp / "card.json").read_text())
        assert (card["scenario"], card["hosts"], card["passed"], card["journal_verified"]) == (
            scenario, hosts, True, True,
        )  # fmt: skip
        checks = {one["name"]: one for one in card["checks"]}
        assert (checks[attack_ends]["before"], checks[attack_ends]["after"]) == ("possible", "impossible")
        assert left(tmp) == []


def test_a_block_that_does_nothing_is_noticed_from_outside() -> None:
    with short_folder() as tmp:
        done = irflow("drill", "brute-force", "--sabotage", "block", "--json", tmp / "card.json", tmp=tmp)
        assert done.code == 1, done.out + done.err
        failed = [one["name"] for one in json.loads((tmp / "card.json").read_text())["checks"] if not one["passed"]]
        assert "web-1 by IPv4 from the attacker" in failed
        assert left(tmp) == []
