"""Jinja2, sandboxed: expressions of playbooks and runbooks, and the *.md.j2 documents."""

from irflow.adapters.templates.documents import TemplateDocuments
from irflow.adapters.templates.expressions import SandboxExpressions

__all__ = ["SandboxExpressions", "TemplateDocuments"]
