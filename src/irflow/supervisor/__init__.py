"""Starts, watches, restarts and stops every part of irflow on one machine."""
