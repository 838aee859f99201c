"""How the tests serve a project, and ask it for a page."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from tests.commands import environment


def get(port: int, path: str) -> tuple[int, str]:
    """Return the status and the text of a page, as soon as the server answers."""
    for _ in range(100):
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except (URLError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def serving(*command: str | Path, cwd: Path, **variables: str) -> Iterator[int]:
    """Serve on a free port while the block runs."""
    port = free_port()
    variables["FLASK_RUN_PORT"] = str(port)
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(**variables),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
