"""A document says what the journal says, and the journal says its hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pydantic import ValidationError

from irflow.actions.document_write import DocumentWrite, WriteParams
from irflow.adapters.document_store import FileDocumentStore
from irflow.adapters.templates import TemplateDocuments
from irflow.core.journal import Draft, Kind
from irflow.shipped import shipped
from tests.fakes.remote import context
from tests.fakes.world import world

WRITE = DocumentWrite()


@pytest.mark.parametrize("template", ["incident-report", "stakeholder-update", "post-incident-review"])
def test_every_shipped_template_is_written_from_the_journal_again_as_a_new_version(
    tmp_path: Path, template: str
) -> None:
    made = world(tmp_path)
    try:
        incident = made.incident(title="Beacon <b>from</b> {{ 1234567 * 1000003 }}")
        about = context(
            store=made.store, incident=incident, documents=TemplateDocuments([shipped("templates")]),
            document_store=FileDocumentStore(tmp_path / "documents"),
        )  # fmt: skip
        params, paths = WriteParams(template=template), []
        for note in ("first note", "second note"):
            made.store.transact(
                lambda tx, text=note: tx.append(  # type: ignore[misc]
                    incident.id, Draft(Kind.NOTE, "operator:a", {"text": text, "operator": "a"})
                )
            )
            seen = WRITE.observe(params, about)
            proof = WRITE.verify(params, seen, (WRITE.apply(WRITE.plan(params, seen)[0], about),), about)
            assert proof.passed
            assert proof.facts["up_to"] == seen["seq"]
            content = (tmp_path / "documents" / proof.facts["path"]).read_bytes()
            assert proof.facts["sha256"] == hashlib.sha256(content).hexdigest()
            assert str(1234567 * 1000003).encode() not in content
            assert b"<b>" not in content
            paths.append(proof.facts["path"])
        assert paths == [f"{incident.id}/{template}.md", f"{incident.id}/{template}-2.md"]
        written = [event.data for event in made.store.events(incident.id) if event.kind == Kind.DOCUMENT_WRITTEN]
        assert [one["path"] for one in written] == paths
        assert set(written[0]) >= {"name", "path", "sha256", "template"}
    finally:
        made.store.close()


@pytest.mark.parametrize("name", ["../x", "A", "", "a/b", "x" * 65])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(ValidationError):
        WriteParams(template=name)
    with pytest.raises(ValidationError):
        WriteParams(template="incident-report", name=name)
