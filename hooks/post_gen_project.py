"""Say what to do next."""

from pathlib import Path
from shlex import quote

print(f"""
The project is ready. Next:

    cd {quote(str(Path.cwd()))}
    make setup      # a virtual environment, .env with a secret, the database
    make run        # http://127.0.0.1:5000
    make test
""")
