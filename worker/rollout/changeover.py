"""Changing the model while it runs: a bundle that lies where one is watched is verified, loaded beside, and adopted.

Looked at by a thread of its own. What it finds is loaded only once it has held still from one look to the next, so that
a bundle is not read while it is being copied. One that is refused leaves the one in force where it is, says why once,
and keeps `hamgate_model_refused` at 1 until something else lies there.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import structlog

from worker import engine
from worker.engine import UnsupportedModelError
from worker.model.bundle import FOLDERS, MANIFEST, Bundle, BundleError
from worker.model.classifier import UNSCORED, CanaryError
from worker.model.models_in_service import Model, ModelsInService, Role
from worker.policy.bands import PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from worker.metrics import Metrics

Fingerprint: TypeAlias = tuple[object, ...] | None
"""Differs between two states of a folder, without reading its files; None when there is no folder."""

# How many bundles are remembered as having been in force: to go back to one needs no new proof.
_REMEMBERED: Final = 16
# Tokens that a new model judges before it is adopted, so that the first batch does not pay for what is done once.
_WARM_UP: Final = 2048

log = structlog.get_logger()


class WorseCanariesError(Exception):
    """A bundle that does not know what the one in force knows; names the canary by index, never by its text."""


@dataclass(slots=True)
class Place:
    """The path of one role's bundle, and the state of what was found there."""

    role: Role
    path: Path
    share: float = 1.0
    model: Model | None = None
    settled: Fingerprint = None
    """The state that has been dealt with: in force, refused, or gone."""
    seen: Fingerprint = None

    def is_news(self) -> bool:
        """Look, and tell whether what lies there must be dealt with: it is new, and has held still since last time."""
        before, self.seen = self.seen, fingerprint(self.path)
        return self.seen != self.settled and self.seen == before


@dataclass(slots=True)
class Changeover:
    """Watches places, and adopts what lies there. `load` makes a model of a verified folder for a role.

    `primary` is in force already, so its place is taken as settled in the state it has now.
    """

    places: Sequence[Place]
    load: Callable[[Path, Role], Model]
    adopt: Callable[[ModelsInService], None]
    shadow: Callable[[Model | None, float], None] | None
    metrics: Metrics
    every: float
    name: str = "models"
    _stopping: threading.Event = field(default_factory=threading.Event)
    _revision: int = 0
    _known: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def __post_init__(self) -> None:
        """Take what is in force as it is."""
        self.metrics.model_share.labels(Role.PRIMARY).set(1)
        for place in self.places:
            place.seen = fingerprint(place.path)
            if place.model:
                place.settled = place.seen
                self._known.append(place.model.classifier.bundle.digest)
                self._introduce(place, place.model)

    def step(self) -> bool:
        """Wait, then look everywhere once. False when it is time to stop."""
        if self._stopping.wait(self.every):
            return False
        for place in self.places:
            self.look(place)
        return True

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def look(self, place: Place) -> None:
        """Deal with what lies there, if it is news."""
        if not place.is_news():
            return
        state = place.seen
        if state is None:
            self._gone(place)
            return
        began, folder = time.monotonic(), place.path.resolve()
        release()  # what the last one left
        try:
            model = self._verified(place, folder)
        except Exception as error:  # noqa: BLE001 whatever a bundle is refused for is the bundle's fault, not the worker's
            self._refuse(place, error)
        else:
            if fingerprint(place.path) != state:
                return  # changed while it was read: the next looks will see to it
            self._accept(place, model, time.monotonic() - began)
        place.settled = state

    def _verified(self, place: Place, folder: Path) -> Model | None:
        """The model of a folder, proven; None when it is the one in force. Raises what it is refused for."""
        bundle = Bundle.load(folder)
        if place.model and bundle.digest == place.model.classifier.bundle.digest:
            return None
        primary = self._primary()
        labels = primary.classifier.labels
        if tuple(bundle.labels) != labels:
            raise BundleError(folder, f"labels are {', '.join(bundle.labels)}, in force are {', '.join(labels)}")
        model = self.load(folder, place.role)
        if model.classifier.bundle.digest != bundle.digest:
            raise BundleError(folder, "changed while it was loaded")
        # A shadow may be worse: that is what it is there to tell. What was in force before has its proof.
        if place.role is not Role.SHADOW and bundle.digest not in self._known:
            require_no_worse(model, primary)
        warm_up(model)
        return model

    def _primary(self) -> Model:
        return next(place.model for place in self.places if place.role is Role.PRIMARY and place.model)

    def _accept(self, place: Place, model: Model | None, seconds: float) -> None:
        self.metrics.model_refused.labels(place.role).set(0)
        if model is None:
            return  # the one in force, back again
        before, place.model = place.model, model
        self._known.append(model.classifier.bundle.digest)
        self._put_in_force(place)
        self.metrics.model_load.observe(seconds)
        self.metrics.model_changes.labels(place.role, "swapped").inc()
        self._introduce(place, model)
        old = before and before.name
        log.info("model in force", role=place.role, model=model.name, before=old, seconds=round(seconds, 3))

    def _refuse(self, place: Place, error: Exception) -> None:
        self.metrics.model_refused.labels(place.role).set(1)
        self.metrics.model_changes.labels(place.role, "refused").inc()
        expected = isinstance(error, (BundleError, CanaryError, PolicyError, UnsupportedModelError, WorseCanariesError))
        log.error(
            "bundle refused; the one in force stays",
            role=place.role,
            bundle=str(place.path),
            cause=str(error) if expected else f"{type(error).__name__}: {error}",
            in_force=place.model and place.model.name,
        )

    def _gone(self, place: Place) -> None:
        place.settled = None
        if place.role is Role.PRIMARY:
            self._refuse(place, BundleError(place.path, "no such folder"))
            return
        if place.model is None:
            self.metrics.model_refused.labels(place.role).set(0)
            return
        log.warning("model withdrawn", role=place.role, model=place.model.name)
        place.model = None
        self._put_in_force(place)
        self.metrics.model_refused.labels(place.role).set(0)
        self.metrics.model_changes.labels(place.role, "withdrawn").inc()
        self.metrics.model_info.remove(place.role)
        self.metrics.model_share.labels(place.role).set(0)

    def _put_in_force(self, place: Place) -> None:
        if place.role is Role.SHADOW:
            if self.shadow:
                self.shadow(place.model, place.share)
            return
        self._revision += 1
        canary = next((place for place in self.places if place.role is Role.CANARY and place.model), None)
        share = canary.share if canary else 0.0
        self.metrics.model_share.labels(Role.PRIMARY).set(1 - share)
        self.adopt(ModelsInService(self._primary(), canary.model if canary else None, share, self._revision))

    def _introduce(self, place: Place, model: Model) -> None:
        bundle = model.classifier.bundle
        self.metrics.model_info.labels(place.role).info({
            "name": bundle.name,
            "digest": bundle.digest,
            "engine": str(model.classifier.engine.kind),
            "labels": ",".join(model.classifier.labels),
        })  # fmt: skip
        if place.role is not Role.PRIMARY:
            self.metrics.model_share.labels(place.role).set(place.share)
        self.metrics.model_loaded.labels(place.role).set_to_current_time()


def release() -> None:
    """Give back the memory of models that are no longer held: the old ones go when their last batch is written."""
    gc.collect()
    engine.release()


def fingerprint(path: Path) -> Fingerprint:
    """The state of a bundle's folder: where it really lies, and each file's place, size and times."""
    folder = path.resolve()
    try:
        manifest = folder / MANIFEST
        files = [manifest, *(file for part in FOLDERS for file in sorted((folder / part).rglob("*")))]
        stats = [(str(file), file.lstat()) for file in files if file != manifest or manifest.exists()]
    except OSError:
        return (str(folder), "cannot be read, or is changing")
    if not folder.is_dir():
        return None
    return (str(folder), *((name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats))


def require_no_worse(model: Model, in_force: Model) -> None:
    """Raise WorseCanariesError when a model gets one of the canaries wrong that the one in force gets right."""
    canaries = in_force.classifier.bundle.canaries
    if not canaries:
        return
    classifier = model.classifier
    scores = classifier.judge(classifier.prepare([canary.text for canary in canaries]))
    for index, (canary, label) in enumerate(zip(canaries, scores.label.tolist(), strict=True)):
        got = None if label == UNSCORED else classifier.labels[label]
        if got != canary.label:
            message = (
                f"canary {index} of {in_force.name}, which is in force: it says {canary.label}, "
                f"this one {got or 'has no finite score'}"
            )
            raise WorseCanariesError(message)


def warm_up(model: Model) -> None:
    """Judge one batch of the size that comes under load, so that nobody's message pays for what is done once."""
    classifier = model.classifier
    texts = [canary.text for canary in classifier.bundle.canaries] or ["Are we still meeting at seven?"]
    prepared = classifier.prepare(texts)
    tokens = max(1, sum(map(len, prepared)))
    classifier.judge(prepared * -(-min(_WARM_UP, classifier.engine.token_budget) // tokens))
