"""Misjudged messages, for a person to read on this machine: the one place where training writes out messages."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from training import whole
from training.judge import findings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.judge.evaluate import SplitReport

_PAGE = """<!doctype html><meta charset="utf-8"><title>misjudged</title>
<style>body{{font:14px sans-serif;max-width:70em;margin:2em auto}}td{{padding:.2em .6em;vertical-align:top}}</style>
<h1>{count} misjudged test messages of {splits} splits</h1>
<p>The surest errors of each split first. These are messages in full: keep this page where the data may lie.</p>
<table><tr><th>split<th>is<th>was said<th>score<th>message</tr>
{rows}
</table>
"""


def write(reports: Sequence[SplitReport], path: Path) -> None:
    """Write them as a page that only this user can read; whole or not at all."""
    rows = [
        f"<tr><td>{seed}<td>{html.escape(row.label)}<td>{html.escape(given)}<td>{score:.3f}<td>{html.escape(row.text)}</tr>"
        for seed, row, given, score in findings.misjudged(reports)
    ]
    with whole.writing(path) as making:
        making.touch(0o600)
        making.write_text(_PAGE.format(count=len(rows), splits=len(reports), rows="\n".join(rows)), encoding="utf-8")
