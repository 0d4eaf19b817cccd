"""nginx as docs/operations.md shows it: its words, with the ports and certificates of a test."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from irflow.adapters.vault.certificates import make_certificates
from irflow.drill.installation import free_port

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
START_S = 20.0
MAIN = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
{servers}}}
"""


@contextmanager
def proxy(folder: Path, *, web: str = "", prefect: str = "") -> Iterator[int]:
    """Run it in front of what listens at these addresses (`127.0.0.1:8765`). Yields its port, which speaks TLS.

    What is for irflow.example.com is also what it shows who asks for no name. Its certificate is good for 127.0.0.1.
    """
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert program, "Debian's nginx is missing: make setup installs it"
    folder.mkdir()
    make_certificates(folder)
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(MAIN.format(folder=folder, servers=_servers(folder, port, web, prefect)))
    with (folder / "nginx.log").open("wb") as log:
        process = subprocess.Popen([program, "-p", str(folder), "-c", str(config)], stdout=log, stderr=log)
        try:
            _wait(port, process, folder / "nginx.log")
            yield port
        finally:
            process.terminate()
            process.wait(10)


def _servers(folder: Path, port: int, web: str, prefect: str) -> str:
    """The example, with its certificate lines in both servers as it says."""
    (shown,) = re.findall(r"^    server \{\n(?:    .*\n)+", OPERATIONS.read_text(), re.MULTILINE)
    certificate = f"ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key;"
    text = re.sub(r"ssl_certificate\w* .*\n", "", textwrap.dedent(shown))
    text = re.sub(r"(server_name .*?;)", rf"\1 {certificate}", text)
    listening = ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    for said, here in (listening, ("127.0.0.1:8765", web), ("127.0.0.1:4200", prefect)):
        assert said in text, said
        text = text.replace(said, here or "127.0.0.1:9")
    return text


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, "nginx did not start in time"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
