"""How much of a run people decide: what the policy asks of them, the whole plan, or each step."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """How a plan runs.

    `automatic`: people are asked where a rule says so. `approve`: a person says yes to the plan before anything of it
    runs. `step`: a person decides before each step.
    """

    AUTOMATIC = "automatic"
    APPROVE = "approve"
    STEP = "step"
