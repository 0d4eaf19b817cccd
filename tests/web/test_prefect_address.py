"""Where people's browsers find Prefect."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from irflow.config import Settings
from irflow.flows.environment import server_environment


def test_links_lead_to_where_irflow_itself_finds_prefect(tmp_path: Path) -> None:
    assert Settings(home=tmp_path, prefect_port=4300).prefect_pages == "http://127.0.0.1:4300"
    assert "PREFECT_UI_API_URL" not in server_environment(Settings(home=tmp_path), "127.0.0.1", 4200)


def test_behind_a_proxy_links_and_prefects_own_pages_use_its_address(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, prefect_public_url="https://prefect.example.com/")
    assert settings.prefect_pages == "https://prefect.example.com"
    assert server_environment(settings, "127.0.0.1", 4200)["PREFECT_UI_API_URL"] == "https://prefect.example.com/api"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "prefect.example.com", "https://x/?a=b", "https://x y"])
def test_an_address_that_is_none_is_a_mistake_in_the_settings(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValidationError):
        Settings(home=tmp_path, prefect_public_url=url)
