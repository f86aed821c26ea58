"""The commands that read data and judge: prepare, evaluate, compare."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple

import torch

from training import hardware, results, whole
from training.bundle import export
from training.data import card as datacard
from training.data import mixture, sources
from training.data import split as data
from training.data.columns import Columns
from training.fit import epochs, recipe, train
from training.fit import published as reference
from training.fit.screen import console, progress, ranking, steps, tell
from training.judge import (
    baselines,
    compare,
    errors,
    evaluate,
    findings,
    judged,
    left_out,
    report,
    sweep,
    traffic,
    trafficpage,
)
from training.judge.evaluate import Exam, SplitReport
from training.judge.judged import CLEAN
from worker.model.bundle import Bundle, naming_problems
from worker.rollout import paired
from worker.rollout.paired import PairedBundles, PairedFigures

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from training.data.split import PreparedRows, Row
    from training.fit.recipe import Recipe
    from training.judge.judged import JudgedSets


class Asked(NamedTuple):
    """The rows that the options name, the labels they are under, and rows of another collection to judge by."""

    prepared: PreparedRows
    labels: tuple[str, ...]
    outside: tuple[Row, ...]

    def exam(self, seed: int) -> Exam:
        """One split of them. Raises DataError where there is nothing to ask."""
        parts = evaluate.cut(self.prepared.rows, seed)
        for name, rows in (("train", parts.fit), ("test", parts.test)):
            spam = _spam(rows)
            if not 0 < spam < len(rows):
                message = f"split {seed}: {spam} spam among {len(rows)} {name} rows; both kinds are needed in each"
                raise data.DataError(message)
        return Exam(seed, parts, self.labels, self.outside)


def asked(options: argparse.Namespace) -> Asked:
    """Read what the options name. With no --data: the shipped sets, the second one only to refine and to judge by."""
    labels = tuple(label.strip() for label in options.labels.split(","))
    for problem in naming_problems("ours", labels):
        message = f"--labels {options.labels!r}: {problem}"
        raise data.DataError(message)
    is_shipped = not options.data
    refine = options.refine or (data.MENDELEY if is_shipped and len(labels) > len(data.LABELS) else None)
    renamed, columns = sources.mapping(options.map), Columns(options.label_column, options.text_column)
    with steps() as show:
        prepared = data.prepare(
            *(options.data or ()), labels=labels, renamed=renamed, refine=refine, columns=columns, progress=show
        )
    place = getattr(options, "outside", None) or (data.MENDELEY if is_shipped else None)
    outside: tuple[Row, ...] = ()
    origins = list(prepared.sources)
    if place:
        outside, origin = data.new_rows(place, prepared.rows, data.THREE, renamed, columns)
        origins.append(origin)
    for source in origins:
        for warning in source.warnings:
            console.print(f"WARNING {source.name}: {warning}", markup=False)
    return Asked(prepared, labels, outside)


def prepare(options: argparse.Namespace) -> int:
    """Say what was read, dropped and kept; write the parts and their data card if asked to."""
    if options.out and options.out.exists() and not options.out.is_dir():
        message = f"{options.out}: a file, where three are to be written into a folder; name another"
        raise data.DataError(message)
    rows = asked(options)
    lines = list(data.report(rows.prepared))
    parts = evaluate.cut(rows.prepared.rows, options.seed)
    lines += [
        f"split {options.seed}: {name:<11} {len(part):>5,}  spam {_spam(part):,}"
        for name, part in parts._asdict().items()
    ]
    for line in lines:
        console.print(line, markup=False)
    rows.exam(options.seed)  # what leaves nothing to learn or to judge by is not written
    if options.out:
        with contextlib.ExitStack() as all_or_none:
            for name, part in parts._asdict().items():
                making = all_or_none.enter_context(whole.writing(options.out / f"{name}.tsv"))
                # A line is a row: a text's own line ends, which no row of the collection has, would break that.
                written = (f"{row.label}\t{' '.join(row.text.splitlines())}\n" for row in part)
                making.write_text("".join(written), encoding="utf-8")
        datacard.write(rows.prepared, parts, options.seed, options.out)
    return 0


def judge(options: argparse.Namespace) -> int:
    """Judge a bundle on one split, or a recipe on several; the figures of several go to a results file."""
    if options.traffic:
        return _traffic(options)
    rows = asked(options)
    if options.bundle:
        exam, name = rows.exam(options.seed), Bundle.load(options.bundle).name
        require_new(Bundle.load(options.bundle), rows.prepared, exam)
        reports = [_beside(evaluate.evaluate(options.bundle, exam), exam, options.runs)]
        tell(findings.findings(reports), name, f"split {options.seed}")
        return 0
    chosen = recipe.load(options.recipe, base=options.base)
    name = _name(chosen, rows.labels)
    seeds = range(options.splits) if options.only is None else [options.only]
    reports = [_one_split(chosen, rows, seed, options.runs) for seed in seeds]
    tell(
        findings.findings(reports), name, f"mean of {len(reports)} splits" if len(reports) > 1 else f"split {seeds[0]}"
    )
    listing = options.runs / f"{name}-errors.html"
    errors.write(reports, listing)
    console.print(f"what was misjudged, to read here and nowhere else: {listing}")
    if options.only is None:
        console.print(f"written: {findings.record(reports, name, options.results or options.runs)}")
    return 0


def _traffic(options: argparse.Namespace) -> int:
    """Judge a bundle on the test rows of all three collections, beside LinearSVC; a table, a results file."""
    if not options.bundle or options.data:
        message = "--traffic judges a bundle on the shipped collections: name it by --bundle, and give no --data"
        raise data.DataError(message)
    bundle, rows = Bundle.load(options.bundle), mixture.read()
    parts = mixture.cut(rows, options.seed)
    if bundle.quality.get(mixture.HELD_OUT) != data.digest(parts.test):
        console.print(f"WARNING {bundle.folder}: nothing in it says that it was made without these rows")
    classifier = reference.classifier(bundle.folder)
    answers = traffic.compare(bundle, classifier, parts, seed=options.seed)
    found = {place: list(traffic.figures(each)) for place, each in answers.items()}
    if options.leave_out:
        left = left_out.turns(rows, options.leave_out)
        if traffic.BASELINE in found:
            made = left_out.ask(parts, left, lambda rest, _: traffic.linear(rest.fit))
            found[traffic.BASELINE] += left_out.figures(made)
        if options.retrain:
            found[""] += left_out.figures(left_out.ask(parts, left, functools.partial(_retrained, options)))
    own = answers[""]
    about = {
        "bundle": bundle.model,
        "split": options.seed,
        "held-out": data.digest(parts.test),
        "flag-from": own.flag_from,
        "block-from": own.block_from,
        "resampled": "clusters",
    }
    path = trafficpage.record(found, bundle.name, about, options.results or options.runs)
    for line in trafficpage.page(trafficpage.load(path, bundle.name), bundle.name):
        console.print(line, markup=False)
    console.print(f"written: {path}")
    return 0


def _retrained(options: argparse.Namespace, parts: mixture.MixtureParts, turn: int) -> traffic.Scorer:
    """The recipe, trained on the fitting part of these."""
    chosen = recipe.load(options.recipe, base=options.base)
    named = hashlib.sha256(data.digest(parts.fit).encode()).hexdigest()[:8]
    run = options.runs / f"{chosen.name}-left-out-{named}"
    with progress(f"turn {turn + 1}, ") as told:
        train.fit(chosen, parts.fit, run, seed=options.seed, progress=told)
    export.export(run, parts.calibration, data.digest(parts.fit), run / "bundle")
    return traffic.model(reference.classifier(run / "bundle"))


def report_(options: argparse.Namespace) -> int:
    """Make the pages of a results file: report, plots, and the measured part of a bundle's card."""
    try:
        return _pages(options)
    except (KeyError, TypeError, AttributeError) as error:  # of a row that is there, and not as it should be
        message = f"{options.results}: not as `evaluate` writes it ({type(error).__name__}: {error})"
        raise report.ReportError(message) from None


def _pages(options: argparse.Namespace) -> int:
    if options.results.name.startswith("traffic-"):
        return _traffic_report(options)
    figures = report.load(options.results, options.name)
    source = results.named(options.results)
    if count := report.no_numbers(options.results):
        console.print(f"{options.results}: {count} figures are no numbers, and left out")
    console.print(report.write(figures, options.name, source, options.out or options.results.parent))
    if options.card:
        report.renew(options.card, report.card(figures, source))
        console.print(options.card)
    return 0


def _traffic_report(options: argparse.Namespace) -> int:
    """The page of today's traffic, and its table in a bundle's card."""
    rows, source = trafficpage.load(options.results, options.name), results.named(options.results)
    folder = options.out or options.results.parent
    written = folder / f"traffic-{options.name}.md"
    made = f"Made from `{source}`\nby `python -m training report`; nothing here is typed."
    first, *rest = trafficpage.page(rows, options.name)
    whole.write(written, "\n".join([first, "", made, *rest]) + "\n")
    console.print(written)
    if options.card:
        table = "\n".join([f"From `{source}`:", "", *trafficpage.headline(rows, options.name)])
        report.renew(options.card, table, report.TRAFFIC)
        console.print(options.card)
    return 0


def sweep_(options: argparse.Namespace) -> int:
    """Compare configurations on slices of train; a table, and a plot beside the runs."""
    name, trials = sweep.load(options.sweep, options.splits)
    rows = asked(options)
    if options.trial is not None:
        with progress() as show:
            sweep.run(trials[options.trial], options.runs, rows.prepared.rows, rows.labels, progress=show)
        return 0
    stem = options.sweep.stem
    if options.data or rows.labels != data.LABELS:  # what was measured on other rows lies in other files
        named = hashlib.sha256(f"{data.digest(rows.prepared.rows)} {rows.labels}".encode()).hexdigest()
        stem += f"-{named[:8]}"
    folder = options.runs / f"{name}-{stem}"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = options.jobs * ([str(gpu) for gpu in range(torch.cuda.device_count())] or [""])
    sweep.run_all(options.sweep, trials, folder, jobs, console.print, _again(options))
    found = list(sweep.outcomes(trials, folder))
    if not found:
        return 1
    ranking(found)
    if report.can_plot():
        sweep.plot(found, folder / "sweep.png")
        console.print(f"{folder / 'sweep.png'}")
    whole = {each.configuration: each for each in found if len(each.each) == options.splits}
    if whole:
        console.print(f"written: {sweep.record([*whole.values()], name, stem, options.results or options.runs)}")
    if left := [each for each in dict.fromkeys(trial.configuration for trial in trials) if each not in whole]:
        console.print(f"not measured on all {options.splits} splits, and not written: {', '.join(left)}", markup=False)
    return int(bool(left))


def _again(options: argparse.Namespace) -> list[str]:
    """The options that name these rows, for another process."""
    given = [("data", place) for place in options.data or ()]
    given += [(name, getattr(options, name)) for name in ("labels", "map", "label_column", "text_column", "refine")]
    return [f"--{name.replace('_', '-')}={value}" for name, value in given if value]


def against(options: argparse.Namespace) -> int:
    """Say which of two bundles is better on the same test rows, by paired tests; 1 when the first is worse."""
    rows = asked(options)
    exam = rows.exam(options.seed)
    for bundle in (options.bundle, options.other):
        require_new(Bundle.load(bundle), rows.prepared, exam)
    one, other = (evaluate.evaluate(bundle, exam) for bundle in (options.bundle, options.other))
    groups = [row.cluster for row in exam.parts.test]
    sets: list[PairedFigures] = []
    for name in (CLEAN, *(f"attack/{each}" for each in one.attacks)):
        found = compare.compare(one.sets[name], other.sets[name], groups)
        console.print(f"{name:<20} {found}", markup=False)
        sets.append(found.as_figures(name))
    if options.out:
        named = PairedBundles(
            candidate=Bundle.load(options.bundle).model,
            other=Bundle.load(options.other).model,
            held_out=data.digest(exam.parts.test),
            rows=len(exam.parts.test),
            made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            sets=tuple(sets),
        )
        place = paired.beside(options.bundle.resolve())
        whole.write(place, paired.written(named).decode())
        console.print(f"written: {place}", markup=False)
    return int(any(each.verdict == "worse" for each in sets))


def require_new(bundle: Bundle, prepared: PreparedRows, exam: Exam) -> None:
    """Refuse to judge a bundle by rows that it was made of; warn where that cannot be known. Raises DataError."""
    held_out = bundle.quality.get("held-out")
    if held_out == data.digest(exam.parts.test):
        return
    if held_out and prepared.digest in {bundle.data_digest, *bundle.quality.get(mixture.LEARNT, ())}:
        split = bundle.quality.get("split")
        message = (
            f"{bundle.folder}: made of the rows of split {split}, so it has learnt most of split {exam.seed}'s test "
            f"rows; judge it by those it has not: --seed {split}"
        )
        raise data.DataError(message)
    console.print(
        f"WARNING {bundle.folder}: nothing in it says that it was made without these rows; figures may flatter it",
        markup=False,
    )


def _one_split(chosen: Recipe, rows: Asked, seed: int, runs: Path) -> SplitReport:
    exam, run = rows.exam(seed), runs / f"{_name(chosen, rows.labels)}-{seed}"
    about = {"run": _identity(chosen, exam), "rows": exam.digest, "seed": seed}
    model = judged.load(run / "answers.npz", about)
    if model is None:
        with progress(f"split {seed}, ") as show:
            train.fit(chosen, exam.parts.fit, run, seed=seed, progress=show, labels=rows.labels)
        datacard.write(rows.prepared, exam.parts, seed, run)
        export.export(run, exam.parts.calibration, rows.prepared.digest, run / "bundle")
        model = evaluate.evaluate(
            run / "bundle", exam, about | {"device": hardware.device(), "shown": epochs.shown(chosen)}
        )
        model.save(run / "answers.npz")
    report = _beside(model, exam, runs)
    clean = {name: judgement.clean.measure()["f1"] for name, judgement in report.baselines.items()}
    beside = "".join(f", {name} {f1:.3f}" for name, f1 in clean.items())
    console.print(f"split {seed}: F1 {report.model.clean.measure()['f1']:.3f}{beside}")
    return report


def _identity(chosen: Recipe, exam: Exam) -> str:
    """SHA-256 of what answers depend on besides the questions: the recipe, wherever its base lies, and the train rows.

    So that answers alone, without their run, can be brought from another machine.
    """
    plain = chosen.resolved()
    del plain["base"]
    learnt = data.digest((*exam.parts.fit, *exam.parts.calibration))
    return hashlib.sha256(json.dumps([plain, learnt], sort_keys=True).encode()).hexdigest()


def _beside(model: JudgedSets, exam: Exam, runs: Path) -> SplitReport:
    if not baselines.are_here():
        console.print("scikit-learn is not installed: no baselines beside it; the answers are kept, judge on elsewhere")
        return SplitReport(exam, model, {})
    found = {}
    for name in baselines.BASELINES:
        file = runs / f"{name}-{len(exam.labels)}-labels-{exam.seed}.npz"
        found[name] = evaluate.baseline(name, exam, file)
    return SplitReport(exam, model, found)


def _name(chosen: Recipe, labels: Sequence[str]) -> str:
    return chosen.name if len(labels) == len(data.LABELS) else f"{chosen.name}-{len(labels)}-labels"


def _spam(rows: Sequence[Row]) -> int:
    return sum(row.label != data.LABELS[0] for row in rows)
