"""The application {{ cookiecutter.project_name }}."""

from collections.abc import Mapping
from typing import Any

from flask import Flask

# {% if cookiecutter.api %}
from app import api, database_errors, doctor, errors, headers, health, logs, pages, seed, transactions, urls

# {%- else %}from app import database_errors, doctor, errors, headers, health, logs, pages, seed, transactions, urls, users
# {%- endif +%}
from app.config import app_settings, refuse_unsafe_serving
from app.db import session
from app.models import Base


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make the application, with `config` over the settings of the environment.

    :raises app.config.SettingError: for a setting that cannot work, and for a server without `SECRET_KEY`.
    """
    app = Flask(__name__)
    app.config.from_mapping(app_settings(config or {}))
    refuse_unsafe_serving(app)

    errors.init_app(app)
    database_errors.init_app(app)
    # After the errors: a request that lost a conflict is repeated before its error is answered.
    transactions.init_app(app)
    session.init_app(app)
    urls.init_app(app)

    # {% if cookiecutter.api %}
    api.init_app(app)
    # {% else %}    app.register_blueprint(users.blueprint)
    # {% endif %}
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(health.blueprint)
    headers.init_app(app)
    logs.init_app(app)
    app.cli.add_command(seed.seed)
    app.cli.add_command(doctor.doctor)
    app.shell_context_processor(
        lambda: {"session": session} | {m.class_.__name__: m.class_ for m in Base.registry.mappers}
    )
    return app
