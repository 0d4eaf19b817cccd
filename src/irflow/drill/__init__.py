"""Drills: the production flow against lab hosts with a staged attack, scored from the attacker's side."""
