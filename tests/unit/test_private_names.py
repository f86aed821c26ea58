"""Private names of the Kafka client: all in one package, all in its table, few, and of a version that was tested."""

from __future__ import annotations

import ast
import re
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import kafka
import pytest

from worker import app
from worker.broker import BrokerError, KafkaLink
from worker.broker.client import KNOWN, PRIVATE, UnknownClientError, require_known
from worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "worker/broker/client"
UPSTREAM = Path(kafka.__file__).parent
MOST = 25
# torch has no public name for its scaled matrix product; the others are public in all but their spelling.
OTHERS = {"_scaled_mm", "_exit", "_fields"}


def private_attributes(tree: ast.AST) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            yield node


def is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def upstream_names() -> set[str]:
    text = "\n".join(path.read_text() for path in UPSTREAM.rglob("*.py"))
    return set(re.findall(r"(?:def |self\.)(_[a-z]\w*)", text))


def used() -> set[str]:
    """The client's private names that the package reads, calls, replaces or overrides."""
    upstream, found = upstream_names(), set()
    for path in sources("worker/broker/client"):
        tree = ast.parse(path.read_text())
        names = {node.attr for node in private_attributes(tree)}
        methods = (each for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for each in node.body)
        names |= {each.name for each in methods if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        found |= names & upstream
    return found


def test_no_private_name_of_another_module_is_used_outside_the_package() -> None:
    strangers = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.attr}"
        for path in sources("worker", "training")
        if PACKAGE not in path.parents
        for node in private_attributes(ast.parse(path.read_text()))
        if not is_own(node) and node.attr not in OTHERS and node.attr in upstream_names()
    }

    assert strangers == set()


def test_the_table_names_exactly_what_is_used() -> None:
    assert used() == set(PRIVATE)


def test_there_are_few() -> None:
    assert len(PRIVATE) <= MOST


@pytest.mark.parametrize("name", PRIVATE)
def test_each_name_is_where_the_table_says_and_has_its_proof(name: str) -> None:
    use = PRIVATE[name]

    assert re.search(rf"\b{name}\b", (UPSTREAM / use.source).read_text())
    assert (ROOT / use.proof).is_file()
    assert use.why


def test_the_locked_version_is_known() -> None:
    assert metadata.version("kafka-python") in KNOWN
    require_known()


def test_a_version_that_was_never_tested_stops_the_start_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownClientError, match=r"kafka-python 3\.0\.99 is installed.*install kafka-python=="):
        require_known("3.0.99")

    monkeypatch.setattr("worker.broker.client.require_known.__defaults__", ("3.0.99",))
    with pytest.raises(BrokerError, match=r"kafka-python 3\.0\.99"):
        KafkaLink("127.0.0.1:1").connect(lambda **_: None)
    [(name, trouble)] = app.findings(Settings())
    assert name == "Kafka client"
    assert trouble
    assert "install kafka-python==" in trouble
