"""Pages of a results file: every figure in them is in the file."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from training.__main__ import main
from training.judge import report
from training.judge.report import ReportError
from training.results import RESULTS

if TYPE_CHECKING:
    from pathlib import Path

NANO = RESULTS / "judge-nano-amd-epyc-2-cores.json"


def test_pages_lie_beside_a_results_file_that_is_not_the_projects_own(tmp_path: Path) -> None:
    shutil.copy(NANO, tmp_path)

    assert main(["report", str(tmp_path / NANO.name)]) == 0

    assert f"Made from `{NANO.name}`" in (tmp_path / "judge-nano.md").read_text()


def test_every_figure_of_the_page_and_of_the_card_is_in_the_results(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# nano\n\n<!-- measured -->\nold 0.123\n<!-- measured -->\n\nmore\n")

    assert main(["report", str(NANO), "--out", str(tmp_path / "pages"), "--card", str(card)]) == 0

    rows = json.loads(NANO.read_text())
    known = {f"{row['value']:.3f}" for row in rows} | {
        f"{f1:.3f}" for row in rows for f1 in row["extra"].get("each", [])
    }
    pages = (tmp_path / "pages" / "judge-nano.md").read_text(), card.read_text()
    for page in pages:
        values = re.findall(r"(\d\.\d{3}) \[", page)
        assert len(values) > 10
        assert set(values) <= known
    assert "0.123" not in pages[1]
    assert pages[1].endswith("\n\nmore\n")
    assert len(list((tmp_path / "pages").glob("*.png"))) == 2


@pytest.mark.parametrize("met", [("leet", "punctuated"), ()])
def test_the_page_says_which_disguises_that_very_recipe_has_learnt(met: tuple[str, ...], tmp_path: Path) -> None:
    rows = json.loads(NANO.read_text())
    for row in rows:
        if "/nano/attack/" in row["name"]:
            row["extra"].pop("met-in-training", None)
            if met:
                row["extra"]["met-in-training"] = row["name"].split("/")[3] in met
    (tmp_path / NANO.name).write_text(json.dumps(rows))

    assert main(["report", str(tmp_path / NANO.name), "--out", str(tmp_path / "pages")]) == 0

    page = (tmp_path / "pages" / "judge-nano.md").read_text()
    assert ("(leet, punctuated), the rest never" in page) == bool(met)
    assert ("Training shows" in page) == bool(met)


def test_what_is_no_results_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[]")

    with pytest.raises(ReportError, match="no results there"):
        report.load(tmp_path / "absent.json", "nano")
    with pytest.raises(ReportError, match="holds no judge/nano/f1-mean"):
        report.load(tmp_path / "other.json", "nano")


def test_without_matplotlib_a_report_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "can_plot", lambda: False)

    with pytest.raises(ReportError, match="pip install matplotlib"):
        report.write(report.load(NANO, "nano"), "nano", "a file", tmp_path)


def test_a_card_without_marks_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine\n")

    with pytest.raises(ReportError, match="no two lines"):
        report.renew(tmp_path / "README.md", "figures")

    assert (tmp_path / "README.md").read_text() == "mine\n"
