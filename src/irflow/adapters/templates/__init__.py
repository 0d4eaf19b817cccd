"""Jinja2, sandboxed: expressions of playbooks and runbooks, the *.md.j2 documents, and irflow's own page."""

from irflow.adapters.templates.documents import TemplateDocuments
from irflow.adapters.templates.expressions import SandboxExpressions
from irflow.adapters.templates.pages import TemplatePages

__all__ = ["SandboxExpressions", "TemplateDocuments", "TemplatePages"]
