"""A table and plots of what `results/` holds, written by `python -m benchmarks.show`; nothing is typed by hand."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from training import results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TABLE: Final = results.ROOT / "benchmarks" / "table.md"
PLOTS: Final = results.ROOT / "benchmarks" / "plots"
_BY_SIZE: Final = re.compile(r"engine/(\w+)/(\d+)-tokens/messages-per-second")
_WITH_LOADS: Final = re.compile(r"end-to-end/(\w+)/messages-per-second")
_PEERS: Final = ("transformers-padded-256", "transformers-sorted-256", "recipe-loop")
_HEADER: Final = (
    "# Results\n\n"
    "Made from `results/*.json` by `python -m benchmarks.show`. Each line carries the commit and the day of its run.\n"
)
_COLUMNS: Final = "| figure | value | commit | date |\n|---|---|---|---|\n"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a section for each device, a line for each figure, in the order of the files."""
    by_device: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_device[row["extra"].get("device", "?")].append(_line(row))
    sections = (f"\n## {device}\n\n{_COLUMNS}{''.join(by_device[device])}" for device in sorted(by_device))
    return _HEADER + "".join(sections)


def _line(row: Mapping[str, Any]) -> str:
    extra, spread = row["extra"], f" ({row['range']})" if row["range"] else ""
    stamp = f"{extra.get('commit', '?')} | {extra.get('date', '?')[:10]}"
    return f"| {row['name']} | {_short(row['value'])} {row['unit']}{spread} | {stamp} |\n"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"  # noqa: PLR2004 # digits that mean something


def plots(rows: Sequence[Mapping[str, Any]], folder: Path = PLOTS) -> list[Path]:
    """Draw what there is to draw: speed over batch size beside the peers, and latency over load."""
    import matplotlib as mpl  # noqa: PLC0415 # slow to load, and the table needs none of it

    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    devices = sorted({row["extra"].get("device", "?") for row in rows})
    by_device = {device: [row for row in rows if row["extra"].get("device", "?") == device] for device in devices}
    drawn = (draw(device, ours, folder) for device, ours in by_device.items() for draw in (_speed, _latency))
    return [path for path in drawn if path]


def _speed(device: str, rows: Sequence[Mapping[str, Any]], folder: Path) -> Path | None:
    from matplotlib import pyplot as plt  # noqa: PLC0415

    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if found := _BY_SIZE.fullmatch(row["name"]):
            lines[found[1]].append((int(found[2]), row["value"]))
    if not lines:
        return None
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for kind, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=f"hamgate {kind}")
    for row in rows:
        name = row["name"].removeprefix("peer/").removesuffix("/messages-per-second")
        if name in _PEERS:
            axes.axhline(row["value"], linestyle="--", linewidth=1, color="0.5")
            axes.annotate(name, (300, row["value"]), fontsize=8, va="bottom", color="0.3")
    axes.set(xscale="log", yscale="log", xlabel="tokens a call", ylabel="messages a second", title=device)
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(loc="lower right", fontsize=8)
    return _saved(figure, folder / f"speed-{results.slug(device)}.png")


def _latency(device: str, rows: Sequence[Mapping[str, Any]], folder: Path) -> Path | None:
    from matplotlib import pyplot as plt  # noqa: PLC0415

    loads = {found[1]: row["extra"] for row in rows if (found := _WITH_LOADS.fullmatch(row["name"]))}
    loads = {kind: extra for kind, extra in loads.items() if extra.get("loads")}
    if not loads:
        return None
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for kind, extra in loads.items():
        for quantile, style in (("p50_ms", "-"), ("p99_ms", "--")):
            heights = [found[quantile] for found in extra["loads"].values()]
            axes.plot(list(extra["loads"]), heights, style, marker="o", label=f"{kind} {quantile[:3]}")
    axes.set(yscale="log", xlabel="load, of what it carries end to end", ylabel="ms from due to verdict", title=device)
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(fontsize=8)
    return _saved(figure, folder / f"latency-{results.slug(device)}.png")


def _saved(figure: Any, path: Path) -> Path:  # noqa: ANN401 # matplotlib's, known where it is loaded
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return path


def main() -> None:
    """Write the table and the plots."""
    rows = results.load()
    TABLE.write_text(table(rows))
    for path in (TABLE, *plots(rows)):
        print(path.relative_to(results.ROOT))


if __name__ == "__main__":
    main()
