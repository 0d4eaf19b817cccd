"""Our own Prefect server: loopback, SQLite under the installation's home, password from the first start on.

`python -m irflow.flows.server PORT`, with IRFLOW_HOME set.
"""

from __future__ import annotations

import sys
from typing import Any

from irflow.config import default_home
from irflow.flows import environment
from irflow.redaction import install

HOST = "127.0.0.1"


def run_server(port: int) -> None:
    """Serve until SIGTERM. port: on 127.0.0.1."""
    from irflow.adapters.catalog import load_settings

    settings = load_settings(default_home())
    environment.enter(settings, environment.server_environment(settings, HOST, port))

    import uvicorn
    from prefect.server.api.server import create_app

    from irflow.flows.server_database import make_ready

    _write_at_once()
    make_ready(settings.prefect_home.absolute() / "prefect.db")
    uvicorn.run(create_app(final=True), host=HOST, port=port, log_level="warning", access_log=False)


def _write_at_once() -> None:
    """Have Prefect's transactions on SQLite begin as writers.

    They begin as readers, and one that then writes while another has written fails at once, whatever the time-out
    (SQLITE_BUSY_SNAPSHOT): requests are answered 503, automations fire twice. Writers wait for their turn.
    """
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    def immediate(self: Any, session: Any, with_for_update: bool = False) -> Any:
        return begin(self, session, with_for_update=True)

    AioSqliteConfiguration.begin_transaction = immediate  # type: ignore[method-assign]


if __name__ == "__main__":
    install()
    run_server(int(sys.argv[1]))
