"""How a page looks, by measure: faults of axe-core, what is wider than the window; and pictures on demand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.console.conftest import TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterator

AXE: Final = TOOLS / "axe.min.js"
SIZES: Final = {"desktop": (1280, 860), "phone": (390, 844)}
SCHEMES: Final = ("light", "dark")
SHOTS: Final = os.environ.get("HAMGATE_TEST_SHOTS")
"""A folder; with it each page is also drawn to a file, as those of docs/console were."""

needs_axe: Final = pytest.mark.skipif(
    not AXE.exists(), reason="axe-core's axe.min.js is to lie in .run/tools (npm pack axe-core)"
)

# The elements that make the page wider than its window; what scrolls by itself, and what is in it, does not.
_WIDER: Final = """() => {
  if (document.documentElement.scrollWidth <= innerWidth) return [];
  const scrolls = (each) => each && (getComputedStyle(each).overflowX !== "visible" || scrolls(each.parentElement));
  const sticks = (each) => each.getBoundingClientRect().left + each.scrollWidth > innerWidth + 0.5;
  const found = [...document.body.querySelectorAll("*")]
    .filter((each) => sticks(each) && !scrolls(each) && ![...each.children].some(sticks));
  const named = found.slice(0, 5).map((each) => each.outerHTML.slice(0, 300));
  return [`${document.documentElement.scrollWidth} px`, ...named];
}"""

_UNEVEN: Final = """() => {
  const span = (row) => [...row.cells].reduce((sum, cell) => sum + cell.colSpan, 0);
  return [...document.querySelectorAll("main table")].filter((table) => table.tHead).flatMap((table) =>
    [...table.tBodies].flatMap((body) => [...body.rows])
      .filter((row) => span(row) !== span(table.tHead.rows[0]))
      .map((row) => `${span(row)} of ${span(table.tHead.rows[0])} columns: ${row.outerHTML.slice(0, 200)}`));
}"""


def windows(browser: Any, address: str) -> Iterator[tuple[str, Any]]:
    """A page in a window of each size and scheme, and their name; CSP is off, for axe-core is put into the page."""
    for size, (width, height) in SIZES.items():
        for scheme in SCHEMES:
            context = browser.new_context(
                base_url=address, locale="en-GB", color_scheme=scheme, bypass_csp=True,
                viewport={"width": width, "height": height},
            )  # fmt: skip
            context.set_default_timeout(60_000)
            yield f"{size}-{scheme}", context.new_page()
            context.close()


def wider(page: Any) -> list[str]:
    """What is wider than the window: first by how much, then which elements; nothing: empty.

    Elements of a page that a form leads to are there before its style sheet is: without it, much is wider.
    """
    page.wait_for_load_state()
    found: list[str] = page.evaluate(_WIDER)
    return found


def uneven(page: Any) -> list[str]:
    """Rows whose cells span fewer columns, or more, than the head of their table has."""
    found: list[str] = page.evaluate(_UNEVEN)
    return found


def serious(page: Any) -> list[str]:
    """What axe-core finds of serious and critical faults."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => (await axe.run()).violations")
    return [
        f"{each['id']}: {node['html'][:200]}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def faults(page: Any, name: str) -> list[str]:
    """All of these, of a page that is ready; and its picture under this name."""
    found = [*wider(page), *uneven(page), *serious(page)]
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png")
    return found
