"""A real Chromium, where one is installed; a console, a worker and a broker for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.conftest import bundle, start, traffic  # noqa: F401 fixtures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Place
    from tests.running_console import RunningConsole

TOOLS = Path(__file__).parents[2] / ".run" / "tools"
NAMES = ("chromium", "chromium-browser", "google-chrome")


def executable() -> str | None:
    """A Chromium on the path, or among the tools of this checkout."""
    found = [shutil.which(name) for name in NAMES] + [str(TOOLS / "chromium")]
    return next((each for each in found if each and Path(each).is_file()), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    path = executable()
    if path is None:
        pytest.skip("no Chromium on the path, nor as .run/tools/chromium (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def console(place: Place, tmp_path: Path) -> Iterator[RunningConsole]:
    from tests.running_console import running, settings  # noqa: PLC0415 where the extra is not, nothing is collected

    with running(settings(place, tmp_path / "console")) as console:
        yield console


@pytest.fixture
def page(browser: Any, console: RunningConsole) -> Iterator[Any]:
    """A page of the console's; a test that leaves an error in the browser's console, or opens a dialog, fails."""
    context = browser.new_context(base_url=console.address, locale="en-GB", viewport={"width": 1280, "height": 860})
    context.set_default_timeout(60_000)
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    yield page
    context.close()
    assert faults == []
