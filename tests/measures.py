"""How hard the project is to enter, in figures: of this checkout, or of another commit beside it.

python -m tests.measures                    this checkout
python -m tests.measures --of f967f45       that commit and this checkout, side by side
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.util
import re
import subprocess
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("worker", "training", "console")
FIRST_FILES: Final = ("worker/pipeline/stages.py", "worker/pipeline.py")
"""Where the pipeline begins: today, and in the old layout."""


def modules(root: Path) -> dict[str, Path]:
    """Every module by its dotted name; a package's own file is the package's name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(root: Path) -> dict[str, set[str]]:
    """The modules that each module imports when it runs, in functions too; not those imported for types only."""
    known = modules(root)
    return {name: set(_imported(ast.parse(path.read_text()), known)) - {name} for name, path in known.items()}


def _imported(tree: ast.AST, known: Mapping[str, Path]) -> Iterator[str]:
    for node in _at_run_time(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found = inner if inner in known else node.module
                if found in known:
                    yield found


def _at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _at_run_time(child)


def rooms(root: Path, package: str) -> dict[str, set[str]]:
    """The imports between rooms: a package's folders, and its files that lie beside them."""
    found: dict[str, set[str]] = defaultdict(set)

    def room(name: str) -> str:
        return ".".join(name.split(".")[:2])

    for name, named in imports(root).items():
        if name.startswith(f"{package}.") or name == package:
            found[room(name)] |= {room(each) for each in named if each.split(".")[0] == package} - {room(name)}
    return dict(found)


def knots(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The cycles: sets of nodes of which each reaches each other (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        path.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in path:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            at = path.index(node)
            if len(path) - at > 1:
                found.append(sorted(path[at:]))
            del path[at:]

    for node in graph:
        if node not in number:
            visit(node)
    return found


def levels(graph: Mapping[str, set[str]]) -> int:
    """The longest chain of imports, counted in nodes; the nodes of a cycle count as one."""
    one = {node: knot[0] for knot in knots(graph) for node in knot}
    merged: dict[str, set[str]] = defaultdict(set)
    for node, others in graph.items():
        mine = one.get(node, node)
        merged[mine] |= {one.get(other, other) for other in others} - {mine}
    depth: dict[str, int] = {}

    def deep(node: str) -> int:
        if node not in depth:
            depth[node] = 1 + max((deep(other) for other in merged.get(node, ())), default=0)
        return depth[node]

    return max(map(deep, list(merged)), default=0)


def first_file(root: Path) -> Path:
    """The file that the pipeline begins with."""
    return next(root / name for name in FIRST_FILES if (root / name).is_file())


def functions(path: Path) -> int:
    """Number of functions and methods in a file."""
    return sum(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(ast.parse(path.read_text()))
    )


def class_names_twice(root: Path) -> dict[str, list[str]]:
    """Class names that are defined more than once at the top of modules, with the files."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in modules(root).values():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(root)))
    return {name: files for name, files in sorted(found.items()) if len(files) > 1}


def private_names(root: Path) -> tuple[int, int]:
    """Private names of the Kafka client that `worker` reads, calls or replaces: how many, in how many files."""
    spec = importlib.util.find_spec("kafka")
    assert spec is not None
    assert spec.origin is not None
    text = "\n".join(path.read_text() for path in Path(spec.origin).parent.rglob("*.py"))
    upstream = set(re.findall(r"(?:def |self\.)(_[a-z]\w*)", text))
    names, files = set(), set()
    for path in (root / "worker" / "broker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in upstream and not _is_own(node):
                names.add(node.attr)
                files.add(path)
    return len(names), len(files)


def _is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}


def settings(root: Path) -> int:
    """The fields of worker.settings.Settings."""
    tree = ast.parse((root / "worker" / "settings.py").read_text())
    [found] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings"]
    named = (
        node.target.id for node in found.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    )
    return sum(name != "model_config" and not name.startswith("_") for name in named)


def pages(root: Path) -> list[Path]:
    """README and everything under docs."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def longest_line(root: Path) -> int:
    """In characters, outside tables and code."""
    return max(len(line) for page in pages(root) for line in _prose(page).splitlines())


def longest_paragraph(root: Path) -> int:
    """In characters; an item of a list is a paragraph."""
    return max(len(each) for page in pages(root) for each in paragraphs(page))


def paragraphs(page: Path) -> list[str]:
    """Paragraphs and items of lists, each on one line, without tables, code and headings."""
    cut = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", _prose(page))
    joined = (re.sub(r"^(?:[-*]|\d+\.) ", "", " ".join(each.split())) for each in cut)
    return [each for each in joined if each and not each.startswith("#")]


def _prose(page: Path) -> str:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    kept = ("" if line.startswith("#") else line for line in text.splitlines() if not line.lstrip().startswith("|"))
    return "\n".join(kept)


def words_a_sentence(named: Sequence[Path]) -> tuple[int, int]:
    """Median and 90th percentile."""
    counted = []
    for page in named:
        for paragraph in paragraphs(page):
            plain = re.sub(r"`[^`]*`", "code", re.sub(r"\]\([^)]*\)", "]", paragraph))
            counted += [len(each.split()) for each in re.split(r"(?<=[.!?:])\s+", plain) if re.search(r"[a-z]", each)]
    if len(counted) < 2:
        return sum(counted), sum(counted)
    return round(median(counted)), round(quantiles(counted, n=10)[-1])


def _documents(root: Path) -> dict[str, list[Path]]:
    docs = root / "docs"
    alone = docs / "decisions.md"
    return {
        "README": [root / "README.md"],
        "architecture": [docs / "architecture.md"],
        "operations": [docs / "operations.md"],
        "decisions": [alone] if alone.is_file() else sorted((docs / "decisions").glob("*.md")),
    }


def measures(root: Path) -> dict[str, str]:
    """All of them, by what a reader calls them."""
    found: dict[str, str] = {"modules": str(len(modules(root)))}
    for package in PACKAGES:
        graph = rooms(root, package)
        found[f"{package}: rooms"] = str(len(graph))
        found[f"{package}: import levels"] = str(levels(graph))
        found[f"{package}: imports between rooms"] = str(sum(map(len, graph.values())))
        found[f"{package}: cycles"] = str(len(knots(graph)))
    found["cycles of modules"] = str(len(knots(imports(root))))
    first = first_file(root)
    found["first file"] = str(first.relative_to(root))
    found["first file: lines, functions"] = f"{len(first.read_text().splitlines())}, {functions(first)}"
    found["first file: lines on metrics"] = str(
        Counter("metrics" in line for line in first.read_text().splitlines())[True]
    )
    found["class names defined twice"] = str(len(class_names_twice(root)))
    names, files = private_names(root)
    found["private names of the Kafka client"] = f"{names} in {files} files"
    found["settings"] = str(settings(root))
    found["longest line of documents"] = str(longest_line(root))
    found["longest paragraph of documents"] = str(longest_paragraph(root))
    for name, named in _documents(root).items():
        middle, high = words_a_sentence([page for page in named if page.is_file()])
        found[f"{name}: words a sentence, median and p90"] = f"{middle}, {high}"
    return found


@contextlib.contextmanager
def _checked_out(commit: str) -> Iterator[Path]:
    """Another commit's files, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(there), commit], check=True)
        try:
            yield there
        finally:
            subprocess.run([*git, "remove", "--force", str(there)], check=True)


def main() -> None:
    """Print them as a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.measures", description=__doc__.partition("\n")[0])
    parser.add_argument("--of", metavar="COMMIT", help="another commit, to stand beside this checkout")
    commit = parser.parse_args().of
    columns = {"here": measures(ROOT)}
    if commit:
        with _checked_out(commit) as there:
            columns = {commit: measures(there)} | columns
    print("| | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in columns["here"]:
        print(f"| {name} | " + " | ".join(column[name] for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
