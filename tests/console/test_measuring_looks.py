"""The measures of a page's looks: they see what they are for, and wait for the style sheet."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("uvicorn", reason="the console needs the extra `console`")

from tests.console import looks

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = """<!doctype html><link rel="stylesheet" href="/late.css">
<form method="post" action="/answered"><input></form>
<main><p class="long">{}</p>
<table><thead><tr><th>a<th>b</thead><tbody><tr><td>1<td>2<tr><td colspan="3">none</table></main>"""
LONG = "a" * 300


class SlowStyle(BaseHTTPRequestHandler):
    """A page that its style sheet makes narrow enough, half a second late behind a form."""

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        is_style = self.path == "/late.css"
        if is_style and self.headers.get("Referer", "").endswith("/answered"):
            time.sleep(0.5)
        content = ".long { overflow-wrap: anywhere }" if is_style else PAGE.format(LONG)
        self.send_response(200)
        self.send_header("Content-Type", "text/css" if is_style else "text/html")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    do_POST = do_GET  # noqa: N815 as the server calls it

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def narrow(browser: Any) -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowStyle)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    yield page
    context.close()
    server.shutdown()
    serving.join()
    server.server_close()


def test_a_page_behind_a_form_is_measured_once_its_style_sheet_is_there(narrow: Any) -> None:
    narrow.press("input", "Enter")
    narrow.wait_for_url("**/answered", wait_until="commit")
    narrow.wait_for_selector(".long")

    assert looks.wider(narrow) == []


def test_what_is_too_wide_is_named_and_so_is_a_row_of_other_columns(narrow: Any) -> None:
    assert looks.wider(narrow) == []
    assert len(looks.uneven(narrow)) == 1
    narrow.add_style_tag(content=".long { overflow-wrap: normal !important }")

    [by, element] = looks.wider(narrow)
    assert int(by.removesuffix(" px")) > 390
    assert element.startswith('<p class="long">')
