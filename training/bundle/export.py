"""An adapter, its tokenizer and its base to a bundle that the worker loads: our own, or one that PEFT saved."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from training.bundle import adapters, calibrate, heads, origins, pooling
from training.data.disguises import DISGUISES, disguise
from training.data.split import LABELS
from training.fit import bases, hub, model, runs
from training.fit import published as reference
from training.fit.recipe import Budgets, RecipeBase
from worker.engine import files
from worker.engine.cpu import CpuEngine
from worker.engine.loading import located, seen_through_nf4
from worker.messages import Action
from worker.model import bundle, coverage
from worker.model.bundle import Bands, Base, Bundle, Calibration, Canary, Coverage, naming_problems
from worker.model.normalise import normalise
from worker.model.tokenizer import TextTokenizer, parse
from worker.policy.bands import Policy
from worker.rollout import budgets, drift

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from training.data.split import Row
    from worker.model.classifier import Classifier, Prepared

CANARIES: Final = (
    Canary("WINNER!! You have been selected for a £900 prize. Call 09061701461 to claim", "spam"),
    Canary("WINNER!! You've been selected for a free iPhone!!!", "spam"),
    Canary("Hey, are we still meeting for lunch today?", "ham"),
    Canary("ok see you at 7, bring the charger", "ham"),
)
"""Messages an English SMS model must know. A bundle keeps its model's answers; `missed` names those that differ."""

HIGHEST: Final = "highest-score"
"""What a bundle's quality calls the highest score of its making and evaluation."""
_HALF: Final = 0.5
_PLAIN: Final = Calibration(slope=1.0, intercept=0.0)


class ExportError(ValueError):
    """A folder that no bundle can be made of; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A bundle's name, recipe, base and labels, and the digest of the data it was trained on."""

    name: str
    recipe: Mapping[str, Any]
    data_digest: str
    base: Base
    labels: tuple[str, ...] = LABELS
    max_tokens: int = 256


def export(run: Path, calibration: Sequence[Row], data_digest: str, out: Path) -> Bundle:
    """Make a bundle of what `train.fit` left in `run`; probabilities and threshold are fitted on `calibration` rows.

    Raises RunError, ExportError, CalibrationError, BundleError, UnsupportedModelError.
    """
    recipe = runs.read(run).pinned
    parts = {"adapter": run / "adapter", "tokenizer": run / "tokenizer"}
    for part, folder in parts.items():
        if not folder.is_dir():
            message = f"{run}: no {part}/ in it; has its training ended?"
            raise ExportError(message)
    _check_out(out, run, Path(recipe.base.id))
    if recipe.on_hub and recipe.base.revision is None:
        message = (
            f"{run / runs.FILE}: no revision, so nobody can know which weights of {recipe.base.id} it was trained on; "
            'put the folder back if it was one, or write the hub\'s commit there as "revision", or train anew'
        )
        raise ExportError(message)
    base = Base(recipe.base.id, recipe.base.revision)
    if recipe.pretraining:
        parts["base"] = run / "base"
        base = msgspec.structs.replace(base, path="base")
    elif (local := Path(recipe.base.id)).is_dir():
        if known := bases.named(local):
            base = known  # anyone can make it, so it stays outside
        else:
            parts["base"] = local
            base = Base(local.resolve().name, None, "base")
        recipe = msgspec.structs.replace(recipe, base=RecipeBase(base.id, base.revision))
    labels = _labels(run, calibration)
    origin = Origin(recipe.name, recipe.resolved(), data_digest, base, labels, recipe.fit.max_tokens)
    with tempfile.TemporaryDirectory() as making:
        if "base" in parts:
            parts["base"] = _linked(parts["base"], Path(making) / "base", labels)
        return _write(origin, parts, calibration, out)


def import_adapter(  # noqa: PLR0913 # what an import is told, and whom it tells
    adapter: Path,
    origin: Origin,
    out: Path,
    *,
    calibration: Sequence[Row] = (),
    renamed: Mapping[str, str] = MappingProxyType({}),
    tell: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Make a bundle of an adapter folder as PEFT saves it.

    `origin.base` is a local folder, whose weights go in too, or a hub id, which is pinned to the commit it has now.
    `origin.labels` are the head's, which id2label may know by itself, under other names by `renamed`; the head's rows
    are put in a bundle's order, ham first. `tell` gets what the adapter says of its making and is not told here.

    LoRA as the engines run it is kept byte for byte; an adapter of another kind is merged into its base, whose weights
    then go in even if a hub has them. What the worker answers to the canaries is held to what PEFT answers under the
    adapter's own config. Without `calibration` rows the scores stay the model's own, at 0.5.
    Raises AdapterError, ExportError, ModelError, CalibrationError, BundleError.
    """
    _check_named(dataclasses.replace(origin, labels=LABELS))  # the labels are looked at when the head is
    _check_out(out, adapter, Path(origin.base.id))
    local = Path(origin.base.id)
    base = Base(local.resolve().name, None, "base")
    if not local.is_dir():
        base = Base(origin.base.id, hub.commit(origin.base.id, origin.base.revision))
        local = located(base)
    elif origin.base.revision is not None:
        message = f"{local}: a folder, which has no revision {origin.base.revision!r}; a base on the hub has"
        raise ExportError(message)
    model.configured(local, None, LABELS, pad_token_id=None)
    given = Base(origin.base.id if base.path is None else str(local.resolve()), base.revision, base.path)
    head = heads.read(adapter, local, adapters.check(adapter, local), origin.labels, renamed)
    origin = dataclasses.replace(origin, labels=head.labels)
    _check_named(origin)
    for line in origins.warnings(adapter, given, origin.recipe):
        tell(line)
    with tempfile.TemporaryDirectory() as making:
        made = Path(making)
        has_own = (adapter / "tokenizer.json").is_file()
        tokenizer = model.load_tokenizer(*((adapter, None) if has_own else (origin.base.id, base.revision)))
        tokenizer.save_pretrained(made / "tokenizer")
        seen = adapters.BaseAsTrained(*seen_through_nf4(dict(origin.recipe)), pooling.pad(adapter, local, tokenizer))
        ends = pooling.end_before(made / "tokenizer", seen.pad)
        tokens = [[*ids, *ends] for ids in _canaries(made / "tokenizer", origin.max_tokens)]
        parts = {"tokenizer": made / "tokenizer"}
        recipe = dict(origin.recipe) | ({} if head.is_in_order else {"head": head.found})
        if adapters.is_served(adapter):
            wanted = adapters.answers(adapter, local, head.labels, tokens, seen, made / "given")
            parts["adapter"] = adapters.alone(adapter, made / "adapter", None if head.is_in_order else local)
            if not head.is_in_order:
                heads.put_in_order(parts["adapter"], head)
            if base.path:
                parts["base"] = _linked(local, made / "base", origin.labels)
        else:
            merged, wanted = adapters.merge(adapter, local, head.labels, head.rows, tokens, seen, made / "merged")
            parts |= merged
            recipe |= {"quantisation": "none", "double_quantisation": False}
            recipe["merged"] = {"kind": adapters.kind(adapter), "sha256": adapters.digest(adapter),
                                "quantisation": "nf4" * seen.quantised or "none",
                                "double_quantisation": seen.double}  # fmt: skip
            base = msgspec.structs.replace(base, path="base")

        def check(classifier: Classifier) -> None:
            found = classifier.engine.logits(
                [message.tokens for message in classifier.prepare([canary.text for canary in CANARIES])]
            )
            exact = isinstance(classifier.engine, CpuEngine)
            adapters.require_same(adapter, found, wanted[:, list(head.rows)], exact=exact)

        return _write(dataclasses.replace(origin, base=base, recipe=recipe), parts, calibration, out, check)


def _canaries(tokenizer: Path, max_tokens: int) -> list[list[int]]:
    """The canaries' tokens as the worker makes them."""
    worker = TextTokenizer(parse((tokenizer / model.TOKENIZER).read_bytes()), max_tokens)
    return [each.tokens.tolist() for each in worker.tokenise([canary.text for canary in CANARIES])]


def _labels(run: Path, rows: Sequence[Row]) -> tuple[str, ...]:
    """A run's labels in its head's order: what it says itself, or of a version that kept none, where two are certain.

    Raises ExportError, also for rows under another label.
    """
    given = {row.label for row in rows}
    labels = runs.read(run).labels
    if not labels and len(given) == len(LABELS) and LABELS[0] in given:
        labels = (LABELS[0], *(given - {LABELS[0]}))
    if not labels:
        message = (
            f'{run / runs.FILE}: does not say its labels (a version before kept none); write them there as "labels", '
            "a list in the order of --labels when it was trained"
        )
        raise ExportError(message)
    if others := sorted(given - set(labels)):
        message = f"{run}: trained on the labels {', '.join(labels)}, not on {', '.join(others)}"
        raise ExportError(message)
    return labels


def _linked(base: Path, into: Path, labels: Sequence[str]) -> Path:
    """A folder of links to the files of a base that a bundle needs, its config.json naming the head's labels.

    Whatever lies beside them stays out.
    """
    into.mkdir()
    for file in files.needed(base):
        (into / file.name).symlink_to(file.resolve())
    config = into / files.CONFIG
    named = files.config(config) | {
        "id2label": {str(at): label for at, label in enumerate(labels)},
        "label2id": {label: at for at, label in enumerate(labels)},
    }
    config.unlink()
    config.write_text(json.dumps(named, indent=2) + "\n")
    return into


def missed(made: Bundle) -> list[str]:
    """The canaries' texts that the bundle's model takes for ham, or does not, otherwise than a person would."""
    answers = {canary.text: canary.label == LABELS[0] for canary in made.canaries}
    return [canary.text for canary in CANARIES if answers.get(canary.text) != (canary.label == LABELS[0])]


def log_odds(classifier: Classifier, texts: Sequence[str]) -> NDArray[np.float64]:
    """Log odds of not being ham, before calibration, by the engine that serves, of the texts that have tokens."""
    prepared = classifier.prepare(texts)
    logits = classifier.engine.logits([message.tokens for message in prepared if not message.is_empty])
    return calibrate.odds_of(logits.astype(np.float64))


def with_quality(made: Bundle, quality: Mapping[str, Any], out: Path) -> Bundle:
    """The same bundle at `out`, with measured figures in it."""
    parts = {part: made.folder / part for part in ("adapter", "tokenizer", "base") if (made.folder / part).is_dir()}
    return bundle.write(out, msgspec.structs.replace(made, quality=dict(quality)), parts)


def _write(
    origin: Origin,
    parts: Mapping[str, Path],
    rows: Sequence[Row],
    out: Path,
    check: Callable[[Classifier], None] = lambda _: None,
) -> Bundle:
    """Write it with the model's own scores, `check` and judge with it, and write it again with what that says."""
    draft = Bundle(
        name=origin.name,
        base=origin.base,
        labels=origin.labels,
        threshold=_HALF,
        calibration=_PLAIN,
        max_tokens=origin.max_tokens,
        recipe=dict(origin.recipe),
        data_digest=origin.data_digest,
        quality={},
        canaries=(),
        created_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    with tempfile.TemporaryDirectory() as making:
        classifier = reference.classifier(bundle.write(Path(making) / "draft", draft, parts).folder)
        check(classifier)
        calibration, threshold = _PLAIN, _HALF
        quality: dict[str, Any] = {}
        bands: Bands | None = None
        covered: Coverage | None = None
        tokenised = zip(rows, classifier.prepare([row.text for row in rows]), strict=True)
        rows = [row for row, message in tokenised if not message.is_empty]
        if rows:
            odds = log_odds(classifier, [row.text for row in rows])
            is_spam = np.array([row.label != origin.labels[0] for row in rows])
            calibration = calibrate.fit(odds, is_spam)
            scores = _scores(odds, calibration)
            ham = [row.text for row in rows if row.label == origin.labels[0]]
            hidden = [_scores(log_odds(classifier, texts), calibration) for texts in _disguised(ham)]
            threshold = calibrate.threshold(scores, [scores[~is_spam], *hidden])
            quality = spread(scores, *hidden, is_spam=is_spam)
            prepared = classifier.prepare([row.text for row in rows])
            allowed = msgspec.convert(origin.recipe.get("bands", {}), Budgets)
            bands, figures = _bands(rows, prepared, scores, is_spam, quality[HIGHEST], allowed, threshold)
            quality |= figures
            threshold = max(threshold, bands.flag_from)
            covered = coverage.of(
                ((normalise(row.text), len(message.tokens)) for row, message in zip(rows, prepared, strict=True)),
                (row.kind for row in rows),
            )
        fitted = msgspec.structs.replace(
            draft, calibration=calibration, threshold=threshold, bands=bands, coverage=covered
        )
        judge = reference.classifier(bundle.write(Path(making) / "fitted", fitted, parts).folder)
        answers = judge.judge(judge.prepare([canary.text for canary in CANARIES])).label
        canaries = tuple(
            Canary(canary.text, origin.labels[answer]) for canary, answer in zip(CANARIES, answers, strict=True)
        )
        usual = drift.usual(judge, [row.text for row in rows])
        return bundle.write(out, msgspec.structs.replace(fitted, canaries=canaries, quality=quality | usual), parts)


def spread(
    evaluated: NDArray[np.float64], *more: NDArray[np.float64], is_spam: NDArray[np.bool_] | None = None
) -> dict[str, Any]:
    """How an evaluation's scores are spread, and the highest of these and `more`, to four digits and not below it."""
    top = max(float(each.max(initial=0.0)) for each in (evaluated, *more))
    return {
        HIGHEST: min(1.0, math.ceil(top * 10_000) / 10_000),
        budgets.SPREAD: budgets.ScoreSpread.of(evaluated, is_spam).as_quality(),
    }


def _bands(  # noqa: PLR0913, PLR0917 what bands are chosen by
    rows: Sequence[Row],
    prepared: Sequence[Prepared],
    scores: NDArray[np.float64],
    is_spam: NDArray[np.bool_],
    top: float,
    allowed: Budgets,
    threshold: float,
) -> tuple[Bands, dict[str, float]]:
    """Bands that hold the budgets for every source's lawful texts, as the worker's policy acts; and what they take.

    Where the slice is told apart without error, budgets alone would flag from just above its last lawful text. So
    nothing is flagged that is more probably lawful, and nothing blocked below the threshold.
    """
    policy = Policy.make(_HALF, flag_from=None, block_from=None, on_unscored="unscored")
    may_block = np.array([policy.most(message.flags) is Action.BLOCK for message in prepared])
    sources = np.array([row.source for row in rows])
    lawful = [(sources == name) & ~is_spam for name in np.unique(sources)]
    all_scores = [scores[each] for each in lawful]
    blockable = [np.where(may_block, scores, 0.0)[each] for each in lawful]
    least = calibrate.bands(all_scores, blockable, top, allowed)
    flag_from = max(least.flag_from, min(threshold, _HALF))
    bands = Bands(flag_from, max(least.block_from, flag_from, threshold))
    return bands, {
        "lawful-flagged": round(calibrate.shares(all_scores, bands.flag_from), 6),
        "lawful-blocked": round(calibrate.shares(blockable, bands.block_from), 6),
    }


def _scores(odds: NDArray[np.float64], calibration: Calibration) -> NDArray[np.float64]:
    return calibrate.sigmoid(calibration.slope * odds + calibration.intercept)


def _disguised(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts under each disguise, thrown otherwise than any that a model is judged by."""
    for name in DISGUISES:
        yield disguise(name, texts, "threshold")


def _check_named(origin: Origin) -> None:
    """Raise ExportError where no bundle can be called so, or have such labels: before anything is made."""
    for problem in naming_problems(origin.name, origin.labels):
        message = f"{problem} (it is {origin.name!r}, {','.join(origin.labels)!r})"
        raise ExportError(message)


def _check_out(out: Path, *sources: Path) -> None:
    """Raise ExportError or BundleError where a bundle would replace what it is made of, or what is no bundle."""
    for source in sources:
        if source.exists() and source.resolve().is_relative_to(out.resolve()):
            message = f"{out}: would take the place of {source}, which it is made of; name another folder"
            raise ExportError(message)
    bundle.check_replaceable(out)
