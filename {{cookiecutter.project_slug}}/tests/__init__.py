"""The tests, one file for each module of the app, and the environment they run in.

Python runs this file before `conftest.py` imports the app, which makes its engine on import.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# A test means the same on every machine: it reads neither `.env` nor what the developer has set.
for name in [name for name in os.environ if name.startswith(("DATABASE_", "SQLITE_", "TRANSACTION_", "FLASK_"))]:
    del os.environ[name]
os.environ.pop("SECRET_KEY", None)
os.environ["PYTHON_DOTENV_DISABLED"] = "1"
# {% if cookiecutter.tasks %}
for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
    os.environ.pop(name, None)
# {% endif %}

# A folder of its own for each run and each xdist worker: two runs at once do not meet.
FOLDER = Path(tempfile.mkdtemp(prefix=f"test-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
os.environ["DATABASE_URL"] = f"sqlite:///{FOLDER / 'test.sqlite3'}"
# What the tests write need not survive a power cut.
os.environ["SQLITE_SYNCHRONOUS"] = "OFF"
