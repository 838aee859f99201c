"""Remove what was not asked for, and say what to do next."""

import shutil
from pathlib import Path
from shlex import quote

# {% if cookiecutter.api %}
Path("app/users.py").unlink()
Path("tests/test_users.py").unlink()
# {% endif %}
# {% if not cookiecutter.api %}
shutil.rmtree("app/api")
shutil.rmtree("tests/api")
Path("app/static/docs.js").unlink()
Path("app/templates/docs.html").unlink()
# {% endif %}
# {% if not cookiecutter.tasks %}
Path("app/tasks.py").unlink()
Path("tests/test_tasks.py").unlink()
# {% endif %}

print(f"""
The project is ready. Next:

    cd {quote(str(Path.cwd()))}
    make setup      # a virtual environment, .env with a secret, the database
    make run        # http://127.0.0.1:5000
    make test
""")
