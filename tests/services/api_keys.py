"""A small web service with keys, as many have it: it takes or makes keys, lists and ends them, and lets them in."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ADMIN = "admin-of-the-service"


@dataclass
class Service:
    """keys: those that get in. log: every request line, as access logs have it. broken: answers 503 to changes."""

    keys: set[str] = field(default_factory=set)
    log: list[str] = field(default_factory=list)
    url: str = ""
    broken: bool = False

    def answer(self, method: str, path: str, authorization: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and JSON."""
        self.log.append(f"{method} {path}")
        if path == "/me":
            return (200, {}) if authorization.removeprefix("Bearer ") in self.keys else (401, {})
        if authorization != f"Bearer {ADMIN}":
            return 403, {}
        if self.broken:
            return 503, {}
        if (method, path) == ("POST", "/keys"):
            key = body.get("key") or secrets.token_hex(20)
            self.keys.add(key)
            return 201, {"data": {"key": key}}
        if (method, path) == ("PUT", "/key"):
            self.keys = {body["key"]}
            return 204, None
        if (method, path) == ("POST", "/keys/revoke"):
            there = body["key"] in self.keys
            self.keys.discard(body["key"])
            return (200 if there else 404), {}
        return 404, {}


@contextmanager
def running_service() -> Iterator[Service]:
    """On loopback, for the length of a block."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, said = service.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            content = b"" if said is None else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _serve

        def log_message(self, format: str, *args: object) -> None:
            """Not to the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
