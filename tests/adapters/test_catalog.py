"""The catalogue: what the files name exists and fits, local ones go before shipped ones, all mistakes at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from irflow.actions import load_actions
from irflow.adapters.catalog import LoadedCatalog, dry_plan, load_catalog
from irflow.adapters.templates import SandboxExpressions
from irflow.core.errors import ConfigurationErrors
from irflow.core.inventory import Host, Inventory
from irflow.core.playbook import Phase
from irflow.core.severity import Severity
from irflow.shipped import shipped
from tests.adapters.actions_like import registry

HOSTS = Inventory(hosts={
    name: Host(name=name, address=f"10.0.0.{number}", key="file:/nowhere/key")
    for number, name in enumerate(("web-1", "web-2", "web-3"), 1)
})  # fmt: skip
TEMPLATES = ["incident-report", "stakeholder-update", "post-incident-review"]

RUNBOOK = """\
runbook: look
title: Look
parameters:
  hosts: {type: hosts, required: true}
  wait: {type: duration, default: 1h}
steps:
  - id: facts
    title: Facts
    action: host.facts
    for_each: "{{ hosts }}"
    with: {host: "{{ item }}"}
  - id: cut
    title: Cut
    action: host.isolate
    for_each: "{{ hosts }}"
    with: {host: "{{ item }}", lease: "{{ wait }}"}
    approval: incident_commander
"""
PLAYBOOK = """\
playbook: seen
title: Seen
match: {types: [seen], severity: [high]}
roles: {incident_commander: oncall}
auto_approve: {look.cut: [high]}
phases:
  containment:
    - runbook: look
      with: {hosts: "{{ incident.hosts }}"}
documents: [incident-report]
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for folder, text in (("runbooks/look", RUNBOOK), ("playbooks/seen", PLAYBOOK)):
        path = tmp_path / f"{folder}.yaml"
        path.parent.mkdir()
        path.write_text(text)
    return tmp_path


def load(*homes: Path) -> LoadedCatalog:
    return load_catalog(
        playbooks=[home / "playbooks" for home in homes], runbooks=[home / "runbooks" for home in homes],
        actions=registry(), inventory=HOSTS, expressions=SandboxExpressions(), templates=TEMPLATES,
    )  # fmt: skip


def mistakes(home: Path, kind: str, old: str, new: str) -> list[str]:
    """The mistakes after replacing text in the runbook or the playbook, as `LINE: message`."""
    path = home / ("runbooks/look.yaml" if kind == "runbook" else "playbooks/seen.yaml")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigurationErrors) as caught:
        load(home)
    return [str(error).removeprefix(f"{path}:") for error in caught.value.errors]


def test_the_shipped_playbooks_and_runbooks_have_no_mistakes_and_all_phases_can_be_planned() -> None:
    loaded = load_catalog(
        playbooks=[shipped("playbooks")], runbooks=[shipped("runbooks")], actions=load_actions(), inventory=HOSTS,
        expressions=SandboxExpressions(), templates=TEMPLATES,
    )  # fmt: skip
    for playbook in loaded.playbooks.values():
        rehearsals = dry_plan(loaded, playbook)
        assert [one.phase for one in rehearsals if one.severity is Severity.CRITICAL] == list(Phase)
        assert not [one.error for one in rehearsals if one.error]
        assert not [one.left_out for one in rehearsals if one.left_out]


def test_critical_is_cut_without_a_person_high_waits_for_one_and_release_always_does() -> None:
    loaded = load_catalog(
        playbooks=[shipped("playbooks")], runbooks=[shipped("runbooks")], actions=load_actions(), inventory=HOSTS,
        expressions=SandboxExpressions(), templates=TEMPLATES,
    )  # fmt: skip
    people = {
        (one.severity, step.step): step.people
        for one in dry_plan(loaded, loaded.playbooks["system-compromise"])
        for step in (one.plan.steps if one.plan else ())
    }
    assert people[Severity.CRITICAL, "isolate"] == 0
    assert people[Severity.HIGH, "isolate"] == 1
    assert people[Severity.CRITICAL, "release"] == people[Severity.HIGH, "release"] == 1


def test_a_local_file_replaces_the_shipped_one_of_the_same_id_and_others_are_added(home: Path, tmp_path: Path) -> None:
    local = tmp_path / "local"
    (local / "runbooks").mkdir(parents=True)
    (local / "runbooks" / "mine.yaml").write_text(RUNBOOK.replace("title: Look", "title: Mine"))
    (local / "runbooks" / "more.yaml").write_text(RUNBOOK.replace("runbook: look", "runbook: more"))
    loaded = load(local, home)
    assert loaded.runbooks["look"].title == "Mine"
    assert set(loaded.runbooks) == {"look", "more"}
    assert set(loaded.playbooks) == {"seen"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("host.facts", "host.fact", "9: no action 'host.fact'. Did you mean 'host.facts'?"),
        ('"{{ wait }}"}', '"{{ wait }}", alow: []}', "16: host.isolate has no parameter 'alow'. Did you mean 'allow'?"),
        (', lease: "{{ wait }}"', "", "16: host.isolate needs the parameter 'lease'"),
        ('lease: "{{ wait }}"', "lease: soon", "16: host.isolate: lease: must be a valid number"),
        ('with: {host: "{{ item }}"}', 'with: {host: "{{ itme }}"}', "11: '{{ itme }}': 'itme' is not known here"),
        ('for_each: "{{ hosts }}"', "for_each: hosts", "10: for_each is not one expression: 'hosts'"),
        ('for_each: "{{ hosts }}"', 'for_each: "{{ item }}"', "10: '{{ item }}': 'item' is not known here"),
        ('for_each: "{{ hosts }}"', 'for_each: "{{ hosts"', "10: '{{ hosts':"),
        ('for_each: "{{ hosts }}"', 'for_each: "{{ incident.host }}"', "10: '{{ incident.host }}': an incident has"),
        ("default: 1h", "default: soon", "5: runbook look, parameter 'wait': not a duration"),
        ("  wait:", "  item:", "5: 'item' cannot be a parameter's name"),
        ("approval: incident_commander", "role: incident_commander", "17: only a manual step has a `role`"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_runbook_is_found_at_its_line(home: Path, old: str, new: str, expected: str) -> None:
    found = mistakes(home, "runbook", old, new)
    assert any(one.startswith(expected) for one in found), found


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("- runbook: look", "- runbook: lok", "8: no runbook 'lok'. Did you mean 'look'?"),
        ("{hosts:", "{host:", "9: runbook look has no parameter 'host'. Did you mean 'hosts'?"),
        ('with: {hosts: "{{ incident.hosts }}"}', "with: {}", "8: runbook look needs the parameter 'hosts'"),
        ('"{{ incident.hosts }}"', "[web-9]", "9: the inventory has no host 'web-9'"),
        ('"{{ incident.hosts }}"', '"{{ hosts }}"', "9: '{{ hosts }}': 'hosts' is not known here"),
        ('"{{ incident.hosts }}"', "\"{{ incident.hosts | attr('x') }}\"", "9:"),
        ("look.cut:", "look.cutt:", "5: auto_approve: no step 'look.cutt' in this playbook. Did you mean 'look.cut'?"),
        ("look.cut:", "look.facts:", "5: auto_approve: look.facts asks for no approval"),
        ("{incident_commander: oncall}", "{communications: x}", "8: runbook look needs the role 'incident_commander'"),
        (
            "[incident-report]",
            "[incident-reprot]",
            "10: no template 'incident-reprot'. Did you mean 'incident-report'?",
        ),
        ("  containment:", "  containement:", "7: phases.containement"),
        ("severity: [high]", "severity: [hihg]", "3: match.severity.0: must be"),
        ("      with:", "      parallel: true\n      with:", "9: the first runbook of a phase has none before it"),
    ],
)
def test_a_mistake_in_a_playbook_is_found_at_its_line(home: Path, old: str, new: str, expected: str) -> None:
    found = mistakes(home, "playbook", old, new)
    assert any(one.startswith(expected) for one in found), found


def test_waiving_a_step_that_always_needs_a_person_is_refused(home: Path) -> None:
    path = home / "runbooks/look.yaml"
    path.write_text(path.read_text().replace("host.isolate", "host.release").replace(', lease: "{{ wait }}"', ""))
    with pytest.raises(ConfigurationErrors, match=r"seen\.yaml:5: auto_approve: host\.release always needs a person"):
        load(home)


def test_mistakes_of_all_files_come_together_and_a_broken_runbook_is_not_reported_as_missing(home: Path) -> None:
    runbook, playbook = home / "runbooks/look.yaml", home / "playbooks/seen.yaml"
    runbook.write_text(RUNBOOK.replace("title: Look", "titel: Look"))
    playbook.write_text(PLAYBOOK.replace("[incident-report]", "[none]"))
    with pytest.raises(ConfigurationErrors) as caught:
        load(home)
    found = str(caught.value)
    assert f"{runbook}:2: unknown key 'titel'" in found
    assert f"{playbook}:10: no template 'none'" in found
    assert "no runbook" not in found


def test_two_files_of_one_folder_cannot_have_the_same_id_or_want_the_same_incidents(home: Path) -> None:
    (home / "playbooks" / "twin.yaml").write_text(PLAYBOOK)
    with pytest.raises(ConfigurationErrors, match=r"twin\.yaml:1: playbook 'seen' is already in .*seen\.yaml"):
        load(home)
    (home / "playbooks" / "twin.yaml").write_text(PLAYBOOK.replace("playbook: seen", "playbook: twin"))
    with pytest.raises(
        ConfigurationErrors, match=r"twin\.yaml:3: playbook 'seen' is already for seen of severity high"
    ):
        load(home)


def test_a_file_with_another_ending_is_not_overlooked(home: Path) -> None:
    (home / "runbooks" / "other.yml").write_text(RUNBOOK)
    with pytest.raises(ConfigurationErrors, match=r"other\.yml: is not read\. Name it \*\.yaml"):
        load(home)


def test_a_rehearsal_shows_what_cannot_be_planned_at_the_playbooks_line(home: Path) -> None:
    path = home / "playbooks/seen.yaml"
    path.write_text(PLAYBOOK.replace("{{ incident.hosts }}", "{{ incident.title }}"))
    loaded = load(home)
    errors = [str(one.error) for one in dry_plan(loaded, loaded.playbooks["seen"]) if one.error]
    assert errors == [
        f"{path}:7: containment cannot be planned: the inventory has no host 'Rehearsal'. "
        "Add it with its key: irflow hosts enrol"
    ]


def test_a_rehearsal_leaves_out_only_what_needs_results_of_a_real_incident(home: Path) -> None:
    path = home / "runbooks/look.yaml"
    path.write_text(RUNBOOK.replace(
        'with: {host: "{{ item }}", lease: "{{ wait }}"}',
        "when: \"{{ results['look.facts@web-1'].root }}\"\n    with: {host: \"{{ item }}\", lease: \"{{ wait }}\"}",
    ).replace('with: {host: "{{ item }}"}', "with: {host: \"{{ results['a.b'].host }}\"}"))  # fmt: skip
    loaded = load(home)
    rehearsal = next(one for one in dry_plan(loaded, loaded.playbooks["seen"]) if one.phase is Phase.CONTAINMENT)
    assert rehearsal.error is None
    assert rehearsal.left_out == ("look.facts",)
    assert rehearsal.plan is not None
    assert [step.key for step in rehearsal.plan.steps] == [
        f"containment/look.cut@{name}" for name in ("web-1", "web-2")
    ]


def test_a_rehearsal_works_before_the_inventory_has_any_host(home: Path) -> None:
    loaded = load_catalog(
        playbooks=[home / "playbooks"], runbooks=[home / "runbooks"], actions=registry(), inventory=Inventory(),
        expressions=SandboxExpressions(), templates=TEMPLATES,
    )  # fmt: skip
    assert not [one.error for one in dry_plan(loaded, loaded.playbooks["seen"]) if one.error]
