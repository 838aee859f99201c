"""Tests of what the app relies on in Flask: when one fails on a new Flask, app/contexts.py is to be edited."""

import inspect

import flask.globals
from flask import Flask, Response
from flask.ctx import AppContext

from app.contexts import has_work_at_close, in_request
from app.scopes import current_scope


def test_flask_has_the_methods_that_are_wrapped() -> None:
    for name, last_parameter in (
        ("full_dispatch_request", "self"),
        ("finalize_request", "from_error_handler"),
        ("handle_user_exception", "e"),
        ("handle_exception", "e"),
        ("handle_http_exception", "e"),
        ("app_context", "self"),
        ("do_teardown_request", "exc"),
        ("do_teardown_appcontext", "exc"),
    ):
        assert list(inspect.signature(getattr(Flask, name)).parameters)[-1] == last_parameter


def test_a_context_has_the_attributes_that_are_reset(app: Flask) -> None:
    with app.test_request_context() as context:
        assert {"_after_request_functions", "_session"} <= vars(context).keys()
        assert {"flashes", "_flashes"} & vars(context).keys()
    if "request_ctx" in vars(flask.globals):  # a request is not an application context: Flask 3.1
        assert "_cv_tokens" in vars(app.app_context())


def test_a_response_knows_what_runs_when_it_is_closed() -> None:
    response = Response()
    assert not has_work_at_close(response)

    response.call_on_close(print)

    assert has_work_at_close(response)


def test_a_request_is_the_scope_even_in_a_context_of_the_caller(app: Flask) -> None:
    with app.app_context():
        around = current_scope()
        with app.test_request_context():
            request = current_scope()
            assert in_request()
            with app.app_context():
                nested = current_scope()
                assert not in_request()
            assert current_scope() is request
        assert current_scope() is around

    assert len({id(scope) for scope in (around, request, nested)}) == 3
    assert isinstance(nested, AppContext)


def test_the_innermost_contexts_are_known_to_flask(app: Flask) -> None:
    assert "_cv_app" in vars(flask.globals)
    if "request_ctx" in vars(flask.globals):
        assert "_cv_request" in vars(flask.globals)
        with app.test_request_context() as context:
            assert isinstance(context._cv_tokens[-1][1], AppContext)
