"""A model as the settings ask for it: bundle, engine, canaries and policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from worker import engine
from worker.engine import UnsupportedModelError
from worker.model.bundle import BundleError
from worker.model.classifier import CanaryError, Classifier
from worker.model.models_in_service import Model, Role
from worker.pipeline.verdicts import Verdicts
from worker.policy.bands import Policy, PolicyError
from worker.rollout.drift import Reference

if TYPE_CHECKING:
    from pathlib import Path

    from worker.settings import Settings

# What is wrong with the model or the settings that go with it: said in a line, without a traceback.
MODEL_ERRORS: Final = (BundleError, UnsupportedModelError, CanaryError, PolicyError)

NO_CANARIES: Final = (
    "it has no canaries, so this host cannot verify that it judges as it did where it was made; "
    "`python -m training export` puts them in"
)

log = structlog.get_logger()


def model(settings: Settings, folder: Path | None = None, role: Role = Role.PRIMARY, *, apart: bool = False) -> Model:
    """Load a bundle (none: HAMGATE_BUNDLE) and its engine, have it judge its canaries, and put the policy on top.

    `apart`: the CPU's engine in a process of its own. Raises BundleError, UnsupportedModelError, CanaryError,
    PolicyError; with `apart` EngineProcessError.
    """
    engine.limit_gpu(settings.gpu_share)
    classifier = Classifier.load(
        folder or settings.bundle,
        settings.engine,
        threads=settings.threads,
        token_budget=settings.token_budget or 0,
        threshold=settings.threshold,
        apart=apart,
    )
    if not classifier.bundle.canaries:
        log.warning("unverified", bundle=classifier.bundle.model, role=role, cause=NO_CANARIES)
    classifier.canaries()
    policy = Policy.make(
        classifier.threshold,
        flag_from=settings.flag_from,
        block_from=settings.block_from,
        on_unscored=settings.on_unscored,
        on_outside=settings.on_outside,
        bands=classifier.bundle.bands,
        by_language=classifier.by_language,
    )
    bundle = classifier.bundle
    for cause in policy.beyond(bundle.highest_score):
        log.warning("band out of reach", bundle=bundle.model, role=role, cause=cause)
    verdicts = Verdicts(classifier.labels, policy, bundle.model)
    return Model(classifier, verdicts, role, Reference.read(bundle.quality))
