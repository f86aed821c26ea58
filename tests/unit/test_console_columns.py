"""Rows that go over several columns: as many of them as the table's head has, for each role."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from console.access import UserRole
from tests.consoles import users_file
from tests.unit.test_console_attacks import with_every_page
from tests.unit.test_console_pages import logged_in

if TYPE_CHECKING:
    from pathlib import Path

PAGES = (
    *("/history?texts=1", "/history?id=none", "/feedback?texts=1", "/feedback?show=accepted&texts=1"),
    *("/feedback?show=refused", "/lists", "/lists?what=number", "/dead-letters", "/dead-letters?reason=too-deep"),
    *("/campaigns", "/campaigns/67fafdfa4dbe71a7"),
)


class Widths(HTMLParser):
    """The columns of each row of a page's tables, table by table."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[int]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("td", "th"):
            self.tables[-1][-1] += int(dict(attrs).get("colspan") or 1)


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("role", UserRole)
def test_each_row_of_a_table_has_as_many_columns_as_its_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: UserRole, *, learns: bool
) -> None:
    made = with_every_page(tmp_path, monkeypatch, users=users_file(tmp_path))
    if not learns:
        made.review = None
    client = logged_in(made, role)
    spanned = 0

    for path in PAGES:
        page = client.get(path).text
        spanned += page.count("colspan=")
        assert [rows for rows in Widths(page).tables if len(set(rows)) > 1] == [], path
    assert spanned >= 5
