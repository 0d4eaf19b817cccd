"""Backups in a restic repository: encrypted, de-duplicated, local or wherever restic can store."""

from irflow.adapters.backup_restic.first_use import FirstUse
from irflow.adapters.backup_restic.program import Repository
from irflow.adapters.backup_restic.repository import ResticBackups

__all__ = ["FirstUse", "Repository", "ResticBackups"]
