"""A small web service with keys, as many have it: it takes or makes keys, lists and ends them, and lets them in."""

from __future__ import annotations

import json
import secrets
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ADMIN = "admin-of-the-service"


@dataclass
class Service:
    """keys: those that get in. names: what some were asked for with. log: every request line, as access logs have it.

    broken: the status that changes are answered with instead. garbled: changes are made and answered with no JSON.
    """

    keys: set[str] = field(default_factory=set)
    log: list[str] = field(default_factory=list)
    url: str = ""
    names: dict[str, str] = field(default_factory=dict)
    broken: int = 0
    garbled: bool = False

    def answer(self, method: str, path: str, authorization: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and JSON."""
        self.log.append(f"{method} {path}")
        if path == "/open":
            return 200, {}
        if path == "/me":
            return (200, {}) if authorization.removeprefix("Bearer ") in self.keys else (401, {})
        if authorization != f"Bearer {ADMIN}":
            return 403, {}
        if self.broken:
            return self.broken, {}
        if (method, path) == ("POST", "/keys"):
            key = body.get("key") or secrets.token_hex(20)
            self.keys.add(key)
            self.names[key] = body.get("name", "")
            return 201, {"data": {"key": key}}
        if (method, path) == ("GET", "/keys"):
            return 200, {"keys": [{"key": key, "name": self.names.get(key, "")} for key in sorted(self.keys)]}
        if (method, path) == ("PUT", "/key"):
            self.keys = {body["key"]}
            return 204, None
        if (method, path) == ("POST", "/keys/revoke"):
            there = body["key"] in self.keys
            self.keys.discard(body["key"])
            return (200 if there else 404), {}
        return 404, {}


@contextmanager
def running_service(tls: ssl.SSLContext | None = None) -> Iterator[Service]:
    """On loopback, for the length of a block. tls: how to speak it, else plain HTTP is spoken."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            status, said = service.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            content = b"" if said is None else json.dumps(said).encode()
            if service.garbled and self.path != "/me":
                content = b"made: " + content
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _serve

        def log_message(self, format: str, *args: object) -> None:
            """Not to the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    service.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
