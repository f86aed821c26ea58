"""Pipelines for tests: one model in service, with neither shadow nor traces unless a test adds them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from worker.model.models_in_service import Model, ModelsInService
from worker.pipeline.accounts import Accounts
from worker.pipeline.inbox import Inbox
from worker.pipeline.stages import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.pipeline.batch import Waiting
    from worker.pipeline.batching import MicroBatcher
    from worker.pipeline.slices import Limits
    from worker.pipeline.verdicts import Verdicts


def pipeline_of(
    source: Any,
    sink: Any,
    classifier: Any,
    verdicts: Verdicts,
    batcher: MicroBatcher[Waiting],
    metrics: Any,
    limits: Limits,
    clock: Callable[[], float] = time.time,
) -> Pipeline:
    """Return a pipeline of these parts."""
    models, inbox = ModelsInService(Model(classifier, verdicts)), Inbox(batcher, clock)
    return Pipeline(source, sink, models, inbox, Accounts(metrics, inbox, models), limits, clock)
