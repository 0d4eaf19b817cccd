"""irflow: contain an incident in seconds, prove it, undo it exactly, and write it all down."""

__version__ = "0.1.0"
