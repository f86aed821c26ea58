"""Bundles change while it runs: what is good comes into force, what is not leaves the old one there, and says why."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests import bundles
from tests.bundles import NANO
from worker import loading, settings
from worker.metrics import Metrics
from worker.model.models_in_service import Model, ModelsInService, Role
from worker.rollout.changeover import Changeover, Place, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

HAM = "Hey, are we still meeting for lunch today?"


class Watched:
    """A changeover over links in a folder, looked at by hand; nano is in force."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.folder, self.metrics = folder, Metrics()
        self.settings = settings.load({"threads": "1"} | more)
        self.links = {role: folder / role for role in Role}
        self.point(Role.PRIMARY, NANO)
        self.first = loading.model(self.settings, self.links[Role.PRIMARY])
        self.adopted: list[ModelsInService] = [ModelsInService(self.first)]
        self.shadows: list[tuple[Model | None, float]] = []
        self.changeover = Changeover(
            [
                Place(Role.PRIMARY, self.links[Role.PRIMARY], model=self.first),
                Place(Role.CANARY, self.links[Role.CANARY], 0.25),
                Place(Role.SHADOW, self.links[Role.SHADOW], 0.5),
            ],
            load=self.load,
            adopt=self.adopted.append,
            shadow=lambda model, share: self.shadows.append((model, share)),
            metrics=self.metrics,
            every=0.0,
        )
        self.loaded: list[Path] = []

    def load(self, folder: Path, role: Role) -> Model:
        self.loaded.append(folder)
        return loading.model(self.settings, folder, role)

    def point(self, role: Role, bundle: Path) -> None:
        self.links[role].unlink(missing_ok=True)
        self.links[role].symlink_to(bundle)

    def look(self, times: int = 2) -> list[Mapping[str, Any]]:
        """Look some times; what was logged."""
        with capture_logs() as logs:
            for _ in range(times):
                assert self.changeover.step()
        return logs

    def value(self, series: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(series, labels)

    def assert_refused(self, cause: str, role: Role = Role.PRIMARY) -> None:
        [said] = [line for line in self.look() if line["log_level"] != "warning"]  # as of a bundle without canaries
        assert (said["log_level"], said["role"]) == ("error", role)
        assert cause in said["cause"]
        assert self.adopted[-1].primary is self.first
        assert self.value("hamgate_model_refused", role=role) == 1
        assert self.value("hamgate_model_changes_total", role=role, outcome="refused") == 1
        assert self.look(3) == [], "said once, not at each look"


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_nothing_is_done_while_nothing_changes(watched: Watched) -> None:
    assert watched.look(3) == []
    assert len(watched.adopted) == 1
    assert watched.value("hamgate_model_refused", role="primary") == 0


def test_a_new_bundle_comes_into_force_once_it_has_held_still(watched: Watched, tmp_path: Path) -> None:
    watched.point(Role.PRIMARY, bundles.reissued(tmp_path / "reissued"))

    assert watched.look(1) == []
    [said] = watched.look(1)

    assert said["event"] == "model in force"
    now = watched.adopted[-1]
    assert now.primary.name == said["model"] != watched.first.name
    assert now.revision == 1
    assert watched.value("hamgate_model_changes_total", role="primary", outcome="swapped") == 1
    info = {"role": "primary", "name": "nano", "engine": "cpu", "labels": "ham,spam"}
    assert watched.value("hamgate_model_info", digest=now.primary.classifier.bundle.digest, **info) == 1
    assert watched.value("hamgate_model_info", digest=watched.first.classifier.bundle.digest, **info) is None


def test_a_bundle_that_is_written_over_the_old_one_comes_into_force(tmp_path: Path) -> None:
    bundles.copy(tmp_path / "mine")
    watched = Watched(tmp_path)
    watched.point(Role.PRIMARY, tmp_path / "mine")
    watched.look()
    shutil.copytree(bundles.reissued(tmp_path / "reissued"), tmp_path / "mine", dirs_exist_ok=True)

    watched.look()

    assert watched.adopted[-1].primary.name != watched.first.name


def corrupt(_: Path, into: Path) -> Path:
    bundles.copy(into)
    with (into / bundles.ADAPTER).open("r+b") as weights:
        weights.seek(-100, os.SEEK_END)
        weights.write(b"\xff" * 8)
    return into


def truncated(_: Path, into: Path) -> Path:
    bundles.copy(into)
    os.truncate(into / bundles.ADAPTER, 1000)
    return into


def truncated_and_sealed(_: Path, into: Path) -> Path:
    return bundles.seal(truncated(_, into))


def unlisted(_: Path, into: Path) -> Path:
    bundles.copy(into)
    (into / "adapter" / "more.json").write_text("{}")
    return into


def half_a_manifest(_: Path, into: Path) -> Path:
    bundles.copy(into)
    os.truncate(into / "bundle.json", 300)
    return into


def without_tokenizer(_: Path, into: Path) -> Path:
    bundles.copy(into)
    (into / "tokenizer" / "tokenizer.json").unlink()
    return into


def with_a_tokenizer_that_is_none(_: Path, into: Path) -> Path:
    bundles.copy(into)
    (into / "tokenizer" / "tokenizer.json").write_text("{}")
    return bundles.seal(into)


def pickled(_: Path, into: Path) -> Path:
    bundles.copy(into)
    (into / "adapter" / "adapter_model.bin").write_bytes(b"\x80\x04.")
    manifest = json.loads((into / "bundle.json").read_text())
    return bundles.seal(into, files=manifest["files"] | {"adapter/adapter_model.bin": ""})


def grown(head: Any) -> Any:
    return np.concatenate([head, head[:1]])


CANARIES = [{"text": HAM, "label": "spam"}]
REFUSED: dict[str, tuple[Any, str]] = {
    "corrupt": (corrupt, "SHA-256"),
    "truncated": (truncated, "SHA-256"),
    "truncated, with digests to match": (truncated_and_sealed, "adapter_model.safetensors"),
    "a manifest cut short": (half_a_manifest, "bundle.json"),
    "a file that is not listed": (unlisted, "not listed"),
    "a file that is not there": (without_tokenizer, "not there"),
    "a tokenizer that is none": (with_a_tokenizer_that_is_none, "tokenizer"),
    "a pickle": (pickled, "kind not allowed"),
    "other labels": (lambda _, into: bundles.remade(into, labels=["ham", "smishing"], canaries=[]), "ham, smishing"),
    "more labels": (
        lambda _, into: bundles.with_head(into, grown, labels=["ham", "spam", "x"]),
        "ham, spam, x",
    ),
    "a head of another size": (
        lambda _, into: bundles.with_head(into, grown),
        "its score head has 3",
    ),
    "a format of the future": (lambda _, into: bundles.remade(into, format=2), "format is 2"),
    "another normaliser": (lambda _, into: bundles.remade(into, normaliser=99), "normaliser is 99"),
    "a canary that it fails": (lambda _, into: bundles.remade(into, canaries=CANARIES), "canary 0"),
    "worse, and no canaries of its own": (lambda _, into: bundles.flipped(into, canaries=[]), "which is in force"),
    "weights that are not finite": (
        lambda _, into: bundles.with_head(into, lambda head: head * np.nan, canaries=[]), "has no finite score",
    ),
    "no folder": (lambda _, into: into, "no such folder"),
    "an empty folder": (lambda _, into: into.mkdir() or into, "no bundle.json"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "cause"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_is_refused_and_the_old_one_stays(
    watched: Watched, tmp_path: Path, spoil: Callable[[Path, Path], Path], cause: str
) -> None:
    watched.point(Role.PRIMARY, spoil(NANO, tmp_path / "bad"))

    watched.assert_refused(cause)


def test_the_tokenizer_process_of_a_bundle_that_is_refused_ends_with_it(watched: Watched, tmp_path: Path) -> None:
    pids: list[int] = []

    def load(folder: Path, role: Role) -> Model:
        model = watched.load(folder, role)
        model.classifier.tokenise_in_processes()
        pids.extend(model.classifier.tokenizer_pids)
        return model

    watched.changeover.load = load
    watched.point(Role.PRIMARY, bundles.flipped(tmp_path / "worse", canaries=[]))

    watched.assert_refused("which is in force")

    [pid] = pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_threshold_outside_the_operators_bands_is_refused(tmp_path: Path) -> None:
    watched = Watched(tmp_path, block_from="0.93")
    watched.point(Role.PRIMARY, bundles.remade(tmp_path / "high", threshold=0.96, bands=None, canaries=[]))

    watched.assert_refused("HAMGATE_BLOCK_FROM")


def test_a_refused_bundle_that_is_corrected_comes_into_force(watched: Watched, tmp_path: Path) -> None:
    newer = bundles.reissued(tmp_path / "reissued")
    whole = (newer / bundles.ADAPTER).read_bytes()
    os.truncate(newer / bundles.ADAPTER, 1000)  # still being copied
    watched.point(Role.PRIMARY, newer)
    watched.assert_refused("SHA-256")

    (newer / bundles.ADAPTER).write_bytes(whole)
    watched.look()

    assert watched.adopted[-1].primary.name != watched.first.name
    assert watched.value("hamgate_model_refused", role="primary") == 0


def test_the_way_back_needs_no_new_proof(watched: Watched, tmp_path: Path) -> None:
    """The newer bundle's canaries may be what the older one failed: that must not bar the way back to it."""
    newer = bundles.reissued(tmp_path / "newer")
    watched.point(Role.PRIMARY, newer)
    watched.look()
    stricter = watched.adopted[-1].primary.classifier.bundle
    object.__setattr__(watched.adopted[-1].primary.classifier, "bundle", _with_canary(stricter))

    watched.point(Role.PRIMARY, NANO)
    watched.look()

    assert watched.adopted[-1].primary.name == watched.first.name
    watched.point(Role.PRIMARY, newer)
    watched.look()
    assert watched.adopted[-1].primary.name == stricter.model


def _with_canary(bundle: Any) -> Any:
    import msgspec  # noqa: PLC0415

    from worker.model.bundle import Canary  # noqa: PLC0415

    return msgspec.structs.replace(bundle, canaries=(Canary(HAM, "spam"),))


def test_a_bundle_that_changes_while_it_is_read_is_not_taken_until_it_holds_still(
    watched: Watched, tmp_path: Path
) -> None:
    newer = bundles.reissued(tmp_path / "reissued")
    watched.point(Role.PRIMARY, newer)
    load = watched.load

    def meddling(folder: Path, role: Role) -> Model:
        model = load(folder, role)
        os.utime(newer / bundles.ADAPTER)
        return model

    watched.changeover.load = meddling
    watched.look()
    assert len(watched.adopted) == 1

    watched.changeover.load = load
    watched.look(3)
    assert len(watched.adopted) == 2


def test_the_model_in_force_does_not_mind_what_becomes_of_its_files(tmp_path: Path) -> None:
    mine = bundles.copy(tmp_path / "mine")
    model = loading.model(settings.load({"threads": "1"}), mine)
    prepared = model.classifier.prepare([HAM, "WINNER!! claim your prize"])
    before = model.classifier.judge(prepared).score

    for file in mine.rglob("*.safetensors"):
        size = file.stat().st_size
        with file.open("r+b") as opened:  # in place: the same file, as `cp` would write it
            opened.write(b"\x07" * size)

    assert (model.classifier.judge(prepared).score == before).all()


def test_a_canary_takes_its_share_and_gives_it_back(watched: Watched, tmp_path: Path) -> None:
    watched.point(Role.CANARY, bundles.reissued(tmp_path / "reissued"))
    watched.look()

    models = watched.adopted[-1]
    assert models.canary is not None
    assert (models.primary, models.share) == (watched.first, 0.25)
    assert watched.value("hamgate_model_share_ratio", role="primary") == 0.75
    assert watched.value("hamgate_model_share_ratio", role="canary") == 0.25

    watched.links[Role.CANARY].unlink()
    [said] = watched.look()

    assert said["event"] == "model withdrawn"
    assert watched.adopted[-1].canary is None
    assert watched.value("hamgate_model_share_ratio", role="primary") == 1
    assert watched.value("hamgate_model_changes_total", role="canary", outcome="withdrawn") == 1


def test_a_canary_stays_when_the_primary_changes(watched: Watched, tmp_path: Path) -> None:
    watched.point(Role.CANARY, bundles.reissued(tmp_path / "one"))
    watched.look()
    watched.point(Role.PRIMARY, bundles.reissued(tmp_path / "two", created_at="2026-03-03T00:00:00Z"))
    watched.look()

    before, after = watched.adopted[-2:]
    assert after.canary is before.canary is not None
    assert after.primary is not before.primary


def test_a_worse_canary_is_refused_and_a_worse_shadow_is_not(watched: Watched, tmp_path: Path) -> None:
    worse = bundles.flipped(tmp_path / "worse", canaries=[])
    watched.point(Role.CANARY, worse)
    watched.assert_refused("which is in force", Role.CANARY)
    watched.links[Role.CANARY].unlink()
    watched.look()
    assert watched.value("hamgate_model_refused", role="canary") == 0

    watched.point(Role.SHADOW, worse)
    watched.look()

    [(model, share)] = watched.shadows
    assert model is not None
    assert (model.role, share) == (Role.SHADOW, 0.5)


def test_a_fingerprint_tells_each_state_of_a_folder_from_the_others(tmp_path: Path) -> None:
    folder, seen = tmp_path / "b", []
    seen.append(fingerprint(folder))
    bundles.copy(folder)
    seen.append(fingerprint(folder))
    os.utime(folder / bundles.ADAPTER)
    seen.append(fingerprint(folder))
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(manifest))
    seen.append(fingerprint(folder))
    (folder / "README.md").write_text("of no consequence")

    assert seen[0] is None
    assert len(set(seen)) == 4
    assert fingerprint(folder) == seen[-1]
