"""What our Prefect processes find in their environment. Read before Prefect is imported, so nothing of it is here."""

from __future__ import annotations

import os

from irflow.config import Settings
from irflow.core.revealed import remember

COMMON = {
    # Nothing leaves the machine, whatever a later default may be.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # A missing server must be an error, not a second one that nobody sees.
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    # Prefect's UI sends its password itself, so a foreign page cannot use it; this spares every process a request.
    "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
    # Seconds; only where the events do not come through.
    "PREFECT_WORKER_CANCELLATION_POLL_SECONDS": "5",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "irflow",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    # Seconds; Prefect takes no fewer. Hints for people who look at the UI, not what irflow relies on.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
}


def auth_string(settings: Settings) -> str:
    """What our Prefect server asks for, `user:password`; empty where there is none."""
    path = settings.prefect_auth_file
    found = path.read_text().strip() if path.exists() else ""
    remember(found.partition(":")[2])
    return found


def client_environment(settings: Settings) -> dict[str, str]:
    """For processes that talk to the Prefect API."""
    auth = auth_string(settings)
    return {
        **COMMON,
        "PREFECT_HOME": str(settings.prefect_home.absolute()),
        "PREFECT_API_URL": settings.prefect_api,
        # Where there is no TLS, each of Prefect's many HTTP clients still reads all certificates: 20 ms, for nothing.
        **({"PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "true"} if settings.prefect_api.startswith("http://") else {}),
        **({"PREFECT_API_AUTH_STRING": auth} if auth else {}),
    }


def server_environment(settings: Settings, host: str, port: int) -> dict[str, str]:
    """For our own Prefect server. port: on the loopback address `host`."""
    auth = auth_string(settings)
    return {
        **client_environment(settings),
        "PREFECT_API_URL": f"http://{host}:{port}/api",
        # Behind a TLS proxy the pages must not look for the API on the reader's own machine.
        **({"PREFECT_UI_API_URL": f"{settings.prefect_pages}/api"} if settings.prefect_public_url else {}),
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        # server_database.py has done both.
        "PREFECT_API_DATABASE_MIGRATE_ON_START": "false",
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
        "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # Else it writes its pages into the package's own folder, which may belong to another account.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(settings.prefect_home.absolute() / "ui"),
        **({"PREFECT_SERVER_API_AUTH_STRING": auth} if auth else {}),
    }


def enter(settings: Settings, environment: dict[str, str]) -> None:
    """Take on an environment: the caller's Prefect settings go, and its folder and umask too.

    Prefect also reads `.env`, `prefect.toml` and `pyproject.toml` of the current folder, which could be anyone's.
    """
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ.update(environment)
    os.umask(0o077)
    home = settings.prefect_home
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chdir(home)
