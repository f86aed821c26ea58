"""How hard the project is to enter: what has been reached stays reached."""

from __future__ import annotations

import pytest

from tests.measures import (
    PACKAGES,
    ROOT,
    class_names_twice,
    first_file,
    imports,
    knots,
    levels,
    paragraphs,
    rooms,
    settings,
    words_a_sentence,
)

LEVELS = 8
LINES = 220
SETTINGS = 44 + 25 + 8
# compression: readers of other languages need a codec that they have. predict_port, _host, _share: whether texts are
# judged over HTTP, for whom, and what the stream gives for it. sasl_oauth_command, _url, _scope: managed brokers let
# nobody in but by tokens. hash_key_file: numbers in lists and registries are kept as keyed hashes.
# lists_topic: whether there are lists, and where.
# registry, _topic: which senders and hosts are whose, a file of the operator's, or what was pushed to a topic.
# campaigns_topic, _rule: how workers share campaigns, and whether; and whether these may decide.
# senders_topic, _burst, _fan_out, _rule: whether senders are watched, what is much here, and whether it may decide.
# feedback_topic, _window: reports have a topic of their own, and how many messages a text is looked for in is memory.
# console_host, _port, _users, _folder: where the console answers, for whom, and what it keeps.
# console_candidates: bundles that an operator of the console may put in force, and none from elsewhere.
# console_text_key_file, _days, _share: whether the console keeps texts, encrypted, how long, and how many of them.
# console_database: its window in a database that is there already, by URL.
# console_proxies, _user_header, _groups_header, _roles: which proxy logs its users in, and how it says who they are.
# Of documents: characters of a line, a paragraph and a decision, and words of nine sentences in ten.
LINE, PARAGRAPH, PAGE, WORDS = 120, 700, 2000, 30


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert knots(imports(ROOT)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_between_rooms_point_one_way_over_few_levels(package: str) -> None:
    graph = rooms(ROOT, package)

    assert knots(graph) == []
    assert levels(graph) <= LEVELS


def test_the_pipelines_first_file_is_short_and_sums_nothing_up() -> None:
    text = first_file(ROOT).read_text()

    assert first_file(ROOT) == ROOT / "worker" / "pipeline" / "stages.py"
    assert len(text.splitlines()) <= LINES
    assert "worker.metrics" not in text
    assert "metrics." not in text


def test_settings_are_few() -> None:
    assert settings(ROOT) <= SETTINGS


def test_each_class_name_is_defined_once() -> None:
    assert class_names_twice(ROOT) == {}


def test_a_cycle_is_found_and_counts_as_one_level() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set[str]()}

    assert knots(graph) == [["b", "c"]]
    assert levels(graph) == 3


def test_pages_are_easy_to_read() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md")]
    lines = [line for page in pages for line in page.read_text().splitlines() if not line.startswith("|")]

    assert max(map(len, lines)) <= LINE
    assert max(len(paragraph) for page in pages for paragraph in paragraphs(page)) <= PARAGRAPH
    assert words_a_sentence(pages)[1] <= WORDS


def test_a_decision_is_a_page_at_most() -> None:
    pages = [page for page in (ROOT / "docs" / "decisions").glob("*.md") if page.name != "README.md"]

    assert max(len(page.read_text()) for page in pages) <= PAGE
