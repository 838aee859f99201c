"""Tests of the JSON API of a generated project as its clients meet it: fuzzed, and in a browser."""

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from openapi_spec_validator import validate
from playwright.sync_api import Page, expect, sync_playwright

from tests.commands import PYTHON, run
from tests.conftest import Bake
from tests.serving import get, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# A browser as root in a closed network: without a sandbox, and asking nobody but the page it shows.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def project(bake: Bake) -> Path:
    """A project with a database."""
    project = bake()
    run(PYTHON, "-m", "alembic", "upgrade", "head", cwd=project)
    return project


@pytest.fixture
def port(project: Path) -> Iterator[int]:
    """The port that the project is served on."""
    with serving(PYTHON, "-m", "flask", "run", cwd=project, SECRET_KEY="only for tests") as port:
        assert get(port, "/healthz")[0] == 200
        yield port


@pytest.fixture
def page(port: int) -> Iterator[Page]:
    """A browser that shows `/docs`."""
    if CHROMIUM is None:
        assert not os.environ.get("REQUIRE_SERVICES"), "Chromium is missing: apt-get install chromium"
        pytest.skip("Chromium is missing")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/docs", wait_until="networkidle")
        yield page
        browser.close()


def test_the_description_is_valid_openapi(port: int) -> None:
    description = json.loads(get(port, "/openapi.json")[1])

    validate(description)
    assert description["openapi"].startswith("3.1")


@pytest.mark.parametrize("left_out", [(), ("--exclude-method", "DELETE")], ids=["all", "without deletions"])
def test_no_request_that_a_fuzzer_invents_breaks_the_api(
    project: Path, port: int, tmp_path: Path, left_out: tuple[str, ...]
) -> None:
    fuzzer: tuple[str | Path, ...] = (
        PYTHON.with_name("schemathesis"),
        "run",
        f"http://127.0.0.1:{port}/openapi.json",
        *left_out,
    )

    said = run(*fuzzer, "--checks", "all", "--max-examples", "40", "--seed", "1", cwd=tmp_path).stdout

    generated, passed = re.search(r"(\d+) generated, (\d+) passed", said).groups()  # type: ignore[union-attr] # or it fails
    assert int(generated) == int(passed) > 200
    with closing(sqlite3.connect(project / "app.sqlite3")) as database:
        rows = database.execute("SELECT name, email, created_at FROM users").fetchall()
    assert rows or not left_out
    for name, email, created_at in rows:
        assert 0 < len(name) <= 100
        assert "\0" not in name
        assert email == email.lower()
        assert 0 < len(email) <= 254
        assert created_at


def test_the_documentation_lists_the_operations_and_tries_them_out(page: Page, port: int) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.reload()
    operations = page.locator(".opblock-summary")
    expect(operations).to_have_count(5)
    for operation in ("List the users.", "Add a user.", "Show a user.", "Change a user.", "Delete a user."):
        expect(operations.filter(has_text=operation)).to_be_visible()

    add = page.locator("#operations-users-users_create")
    add.locator(".opblock-summary-control").click()
    add.get_by_role("button", name="Try it out").click()
    add.locator("textarea").fill('{"name": "Ada", "email": "ada@example.com"}')
    add.get_by_role("button", name="Execute").click()

    answer = add.locator(".live-responses-table")
    expect(answer.locator("tbody td.response-col_status")).to_have_text("201")
    expect(answer).to_contain_text('"name": "Ada"')
    assert complaints == []
    assert all(url.startswith((f"http://127.0.0.1:{port}/", "data:")) for url in asked), asked


def test_the_documentation_allows_no_script_inside_the_page(page: Page) -> None:
    policies = page.evaluate("""() => new Promise(resolve => {
        document.addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective));
        const script = document.createElement("script");
        script.text = "document.title = 'it ran'";
        document.body.append(script);
    })""")

    assert policies == "script-src-elem"
    assert page.title() != "it ran"
