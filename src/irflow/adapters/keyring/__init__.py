"""Keyrings: the operating system's, or one encrypted file on a bare server."""
