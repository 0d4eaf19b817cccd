"""Hosts from where they already stand: an Ansible inventory, an OpenSSH client configuration.

Each is read by the program that owns the format, because nothing else follows all of its rules; what it said is kept
until one of the files it read changes.
"""

from irflow.adapters.catalog.imports.read import Imports, imported

__all__ = ["Imports", "imported"]
