"""How gunicorn serves the app: `make serve`. The settings: https://docs.gunicorn.org/en/stable/settings.html .

In the environment, `PORT` is the port that the world reaches (without it: 8000, for this machine alone), and
`WEB_CONCURRENCY` the number of processes.
"""

import os
import sys
from pathlib import Path

from click import ClickException
from dotenv import load_dotenv
from gunicorn.arbiter import Arbiter
from gunicorn.workers.gthread import ThreadWorker

load_dotenv(Path(__file__).parent / ".env")

wsgi_app = "app:create_app()"

# The app logs a line for each request.
os.environ.setdefault("LOG_LEVEL", "INFO")

workers = int(os.environ.get("WEB_CONCURRENCY") or 2)

# A thread that answers a request uses one connection; the pool of a process has five, and ten more in need.
threads = 4

# A process that shows no sign of life for so many seconds is replaced.
timeout = 30
# What is being answered when the server stops has so many seconds to end.
graceful_timeout = 30
# Nobody controls it but by signals; its socket would lie in a home that containers do not have.
control_socket_disable = True


class DrainingWorker(ThreadWorker):
    """A worker that stops without cutting off anybody, and says in one line why it does not start."""

    def load_wsgi(self) -> None:
        """Make the app; with a setting that cannot work, end."""
        try:
            super().load_wsgi()
        except ClickException as error:
            self.log.error("%s", error.message)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Begin to accept connections, or stop: take those who wait at the door, and close it.

        By itself it listens until its last answer is sent, and resets the connections that were made meanwhile.
        """
        super().set_accept_enabled(enabled)
        if not (enabled or self.alive):
            for listener in self.sockets:
                before = -1
                while self.nr_conns != before:
                    before = self.nr_conns
                    self.accept(listener)
                listener.close()


worker_class = DrainingWorker
