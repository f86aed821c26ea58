"""The incidents: how each is provoked, which alerts must fire, and how it is fixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from worker.model import bundle as bundles
from worker.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deploy.drill.stage import Stage


@dataclass(frozen=True)
class Incident:
    """`provoke` and `fix` act on the stage; all of `alerts` must fire, and end once it is fixed."""

    name: str
    says: str
    alerts: frozenset[str]
    provoke: Callable[[Stage], None]
    fix: Callable[[Stage], None]
    names: tuple[str, ...] = ("one", "two")


def _broker_dies(stage: Stage) -> None:
    stage.broker.kill()


def _broker_returns(stage: Stage) -> None:
    stage.broker.start()


def _poison(stage: Stage) -> None:
    stage.traffic(rate=40, poison=0.5)


def _no_more_poison(stage: Stage) -> None:
    stage._traffic[-1].terminate()  # noqa: SLF001 the last one is the flood


def _judge_hangs(stage: Stage) -> None:
    stage.workers["one"].hold.touch()


def _judge_goes_on(stage: Stage) -> None:
    stage.workers["one"].hold.unlink()


def _worker_gone(stage: Stage) -> None:
    stage.workers["two"].is_wanted = False
    stage.workers["two"].kill()


def _worker_back(stage: Stage) -> None:
    stage.workers["two"].is_wanted = True


def _bad_model(stage: Stage) -> None:
    """By a restart: at a start there is no bundle in force yet, whose canaries would have had it refused."""
    stage.switch_bundle(worse_bundle(stage.folder / "worse"))
    for worker in stage.workers.values():
        worker.change()


def _good_model(stage: Stage) -> None:
    """Without a restart, as an operator would: the way back is open to what bears its canaries."""
    stage.switch_bundle(SHIPPED_BUNDLE)


def _refused_model(stage: Stage) -> None:
    stage.switch_bundle(worse_bundle(stage.folder / "worse"))


def _share_instance_id(stage: Stage) -> None:
    stage.workers["two"].change(instance_id="one")


def _restore_instance_id(stage: Stage) -> None:
    stage.workers["two"].change(instance_id="two")


def _late(stage: Stage) -> None:
    for worker in stage.workers.values():
        worker.change(deadline="0.001")


def _in_time(stage: Stage) -> None:
    for worker in stage.workers.values():
        worker.change(deadline="")


def worse_bundle(folder: Path) -> Path:
    """Write the shipped bundle, sure that all is spam, without the canaries that would have had it refused."""
    good = bundles.load(SHIPPED_BUNDLE)
    parts = {part: SHIPPED_BUNDLE / part for part in ("adapter", "tokenizer", "base")}
    calibration = bundles.Calibration(slope=good.calibration.slope, intercept=good.calibration.intercept + 12)
    bundles.write(folder, msgspec.structs.replace(good, calibration=calibration, canaries=(), name="worse"), parts)
    return folder


ALL: Final = {
    incident.name: incident
    for incident in (
        Incident(
            "broker",
            "the broker is killed, and comes back",
            frozenset({"HamgateBrokerDown", "HamgateNobodyReady"}),
            _broker_dies,
            _broker_returns,
        ),
        Incident(
            "poison",
            "a sender floods the input with what cannot be read",
            frozenset({"HamgateDeadLetters"}),
            _poison,
            _no_more_poison,
        ),
        Incident("judge", "a worker's judge hangs", frozenset({"HamgateNoProgress"}), _judge_hangs, _judge_goes_on),
        Incident(
            "gone",
            "a worker is killed and not started again",
            frozenset({"HamgateScrapeMissing"}),
            _worker_gone,
            _worker_back,
        ),
        Incident(
            "model", "a worse bundle comes into force", frozenset({"HamgateVerdictShift"}), _bad_model, _good_model
        ),
        Incident(
            "refused",
            "a worse bundle is laid there while workers run",
            frozenset({"HamgateModelRefused"}),
            _refused_model,
            _good_model,
        ),
        Incident(
            "same-id",
            "two workers carry one instance id",
            frozenset({"HamgateRestarting"}),
            _share_instance_id,
            _restore_instance_id,
        ),
        Incident("late", "a deadline that no message can keep", frozenset({"HamgateUnscored"}), _late, _in_time),
    )
}
