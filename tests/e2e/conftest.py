"""The running system and the browser, shared by all tests of this folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.e2e import studies
from tests.e2e.running_stack import ROOT, RunningStack, running_stack
from tests.e2e.viewer_page import PICTURES, ViewerPage

_CHROMIUM = shutil.which("chromium")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
]

OpenPage = Callable[..., ViewerPage]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here, and keep it in one process: it shares one system."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Run the whole system, with every study in its archive."""
    if not (ROOT / "ohif-extension" / "dist" / "index.html").is_file():
        pytest.skip("the viewer is not built (make setup)")
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        running.add_user("ann", "annotator", "Ann Otator")
        running.add_user("bob", "annotator", "Bob Reader")
        running.add_user("vic", "viewer", "Vic Viewer")
        for study in studies.ALL:
            running.upload(study.images)
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if _CHROMIUM is None:
        pytest.skip("chromium is not installed (make test installs it)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(
    stack: RunningStack, browser: Browser, request: pytest.FixtureRequest
) -> Iterator[OpenPage]:
    """Give what opens a tab for a user (None: nobody is logged in)."""
    with pages_of(stack, browser, request) as make:
        yield make


@contextmanager
def pages_of(
    stack: RunningStack, browser: Browser, request: pytest.FixtureRequest
) -> Iterator[OpenPage]:
    """Give what opens tabs of a system; pictures of them where the test fails."""
    contexts: list[BrowserContext] = []
    pages: list[ViewerPage] = []

    def make(user: str | None = "ann", locale: str = "en-US") -> ViewerPage:
        context = browser.new_context(
            base_url=stack.url,
            locale=locale,
            viewport={"width": 1440, "height": 900},
        )
        contexts.append(context)
        if user is not None:
            log_in(context, stack, user)
        pages.append(ViewerPage(context.new_page(), stack))
        return pages[-1]

    failed = request.session.testsfailed
    yield make
    if request.session.testsfailed > failed:
        for number, page in enumerate(pages):
            page.picture(f"FAILED-{request.node.name}-{number}")
    for context in contexts:
        context.close()


def log_in(context: BrowserContext, stack: RunningStack, user: str) -> None:
    """Give a browser the session a user already has."""
    cookies = stack.users[user].cookies
    context.add_cookies(
        [
            {"name": c.name, "value": c.value or "", "url": stack.url}
            for c in cookies.jar
        ]
    )


@pytest.fixture(scope="session", autouse=True)
def _fresh_pictures() -> None:
    shutil.rmtree(PICTURES, ignore_errors=True)
