"""What tests with real services share."""

from __future__ import annotations

from tests.services.prefect import prefect_site as prefect_site
