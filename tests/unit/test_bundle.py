from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from worker.model.bundle import (
    Bands,
    Base,
    Bundle,
    BundleError,
    Calibration,
    Canary,
    Coverage,
    Thresholds,
    load,
    write,
)  # fmt: skip
from worker.model.normalise import NORMALISER_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DESCRIPTION = Bundle(
    name="toy",
    base=Base("toy-base", path="base"),
    labels=("ham", "spam"),
    threshold=0.5,
    calibration=Calibration(slope=1.0, intercept=0.0),
    max_tokens=64,
    recipe={"name": "toy"},
    data_digest="0" * 64,
    quality={"f1": 0.9},
    canaries=(Canary("hello", "ham"),),
    created_at="2026-01-01T00:00:00Z",
)


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Path]:
    contents = {
        "adapter": {"adapter_config.json": "{}", "adapter_model.safetensors": "weights", "README.md": "a card"},
        "tokenizer": {"tokenizer.json": "{}"},
        "base": {"config.json": "{}", "model.safetensors": "base weights", "optimizer.pt": "no business here"},
    }
    for part, files in contents.items():
        (tmp_path / "parts" / part).mkdir(parents=True)
        for name, content in files.items():
            (tmp_path / "parts" / part / name).write_text(content)
    return {part: tmp_path / "parts" / part for part in contents}


@pytest.fixture
def folder(tmp_path: Path, parts: dict[str, Path]) -> Path:
    write(tmp_path / "toy", DESCRIPTION, parts)
    return tmp_path / "toy"


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())
    change(manifest)
    (folder / "bundle.json").write_text(json.dumps(manifest))


def test_bands_and_coverage_are_written_and_loaded(parts: dict[str, Path], tmp_path: Path) -> None:
    banded = msgspec.structs.replace(
        DESCRIPTION,
        bands=Bands(0.4, 0.9),
        by_language={"hi": Thresholds(flag_from=0.6, threshold=0.7, block_from=0.9)},
        coverage=Coverage(("LATIN",), 0.5, languages=("en", "hi"), kinds=("chat",)),
    )

    made = write(tmp_path / "toy", banded, parts)

    assert (made.bands, made.by_language, made.coverage) == (banded.bands, banded.by_language, banded.coverage)


def test_a_bundle_without_bands_is_written_as_versions_before_them_read_it(folder: Path) -> None:
    manifest = json.loads((folder / "bundle.json").read_text())

    assert manifest.keys().isdisjoint({"bands", "by_language", "coverage"})
    assert (load(folder).bands, load(folder).by_language, load(folder).coverage) == (None, {}, None)


@pytest.mark.parametrize(
    ("quality", "highest"),
    [
        ({}, 1.0),
        ({"highest-score": 0.9733}, 0.9733),
        ({"scores": {"bounds": [0.5, 0.9], "shares": [0.9, 0.1, 0.0]}}, 0.9),
        ({"scores": {"bounds": [0.5, 0.9], "shares": [0.9, 0.0, 0.1]}}, 1.0),
        ({"highest-score": 0.95, "scores": {"bounds": [0.5, 0.9], "shares": [0.9, 0.0, 0.1]}}, 0.95),
        ({"scores": "none"}, 1.0),
        ({"scores": {"bounds": [0.5], "shares": [0.0, 0.0]}}, 1.0),
        ({"highest-score": "high"}, 1.0),
    ],
)
def test_the_highest_score_is_what_its_quality_says(quality: dict[str, Any], highest: float) -> None:
    assert msgspec.structs.replace(DESCRIPTION, quality=quality).highest_score == highest


def test_what_is_written_is_what_is_loaded(folder: Path) -> None:
    bundle = load(folder)

    assert (bundle.name, bundle.labels, bundle.canaries) == ("toy", ("ham", "spam"), (Canary("hello", "ham"),))
    assert bundle.digest == hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    assert bundle.model == f"toy@{bundle.digest[:12]}"
    assert bundle.base_folder == folder / "base"
    assert sorted(bundle.files) == [
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "base/config.json",
        "base/model.safetensors",
        "tokenizer/tokenizer.json",
    ]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(lambda m: m.update(format=2), "format is 2", id="format"),
        pytest.param(lambda m: m.update(labels=["spam", "ham"]), "labels", id="ham-not-first"),
        pytest.param(lambda m: m.update(labels=["ham"]), "labels", id="one-label"),
        pytest.param(lambda m: m.update(labels=["ham", "spam", "spam"]), "labels", id="label-twice"),
        pytest.param(lambda m: m.update(normaliser=NORMALISER_VERSION + 1), "normaliser", id="normaliser"),
        pytest.param(lambda m: m.update(threshold=1.5), "threshold", id="threshold"),
        pytest.param(lambda m: m.update(max_tokens=0), "max_tokens", id="max-tokens"),
        pytest.param(lambda m: m["calibration"].update(slope=-1), "calibration", id="slope"),
        pytest.param(lambda m: m["calibration"].update(method="isotonic"), "method", id="calibration-method"),
        pytest.param(lambda m: m["canaries"][0].update(label="smishing"), "canary", id="canary-label"),
        pytest.param(lambda m: m.update(bands={"flag_from": 0.6, "block_from": 0.9}), "bands must hold", id="bands"),
        pytest.param(
            lambda m: m.update(bands={"flag_from": 0.4, "block_from": 1.0}), "bands must hold", id="band-of-1"
        ),
        pytest.param(lambda m: m.update(bands={"flag_from": 0.4}), "block_from", id="half-a-band"),
        pytest.param(
            lambda m: m.update(by_language={"hi": {"flag_from": 0.4, "threshold": 0.3, "block_from": 0.9}}),
            "by_language 'hi' must hold",
            id="bands-of-a-language",
        ),
        pytest.param(
            lambda m: m.update(coverage={"scripts": [], "tokens_a_character": 0}), "tokens_a_character", id="coverage"
        ),
        pytest.param(lambda m: m.update(extra=1), "extra", id="unknown-field"),
        pytest.param(lambda m: m.update(folder="/tmp"), "folder", id="place-given"),  # noqa: S108
        pytest.param(lambda m: m.pop("threshold"), "threshold", id="missing-field"),
        pytest.param(lambda m: m.pop("files"), "files", id="no-files"),
        pytest.param(lambda m: m["files"].pop("tokenizer/tokenizer.json"), "tokenizer/tokenizer.json", id="unlisted"),
        pytest.param(lambda m: m["files"].pop("base/model.safetensors"), "weights", id="base-without-weights"),
        pytest.param(lambda m: m["files"].update({"base/../../secret.json": "0"}), "plain path", id="dot-dot"),
        pytest.param(lambda m: m["files"].update({"/etc/hosts.json": "0"}), "plain path", id="absolute"),
        pytest.param(lambda m: m["files"].update({"base\\x.json": "0"}), "plain path", id="backslash"),
        pytest.param(lambda m: m["files"].update({"base/weights.bin": "0"}), "kind not allowed", id="pickle"),
        pytest.param(lambda m: m["files"].update({"other/x.json": "0"}), "only files below", id="other-folder"),
        pytest.param(lambda m: m["files"].update({"base/gone.json": "0"}), "not there", id="missing-file"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_by_name(
    folder: Path, change: Callable[[dict[str, Any]], object], named: str
) -> None:
    rewrite(folder, change)

    with pytest.raises(BundleError, match=named):
        load(folder)


def test_a_changed_file_is_refused_by_name(folder: Path) -> None:
    (folder / "adapter" / "adapter_model.safetensors").write_text("other weights")

    with pytest.raises(BundleError, match=r"adapter/adapter_model\.safetensors.*SHA-256"):
        load(folder)


def test_what_is_read_of_it_is_what_was_verified(folder: Path) -> None:
    bundle = load(folder)
    assert bundle.read("tokenizer/tokenizer.json") == b"{}"

    (folder / "tokenizer" / "tokenizer.json").write_text("[]")
    with pytest.raises(BundleError, match=r"'tokenizer/tokenizer\.json': changed since it was verified"):
        bundle.read("tokenizer/tokenizer.json")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"'tokenizer/tokenizer\.json': No such file"):
        bundle.read("tokenizer/tokenizer.json")


def test_a_file_that_nobody_listed_is_refused(folder: Path) -> None:
    (folder / "tokenizer" / "added_tokens.json").write_text("{}")

    with pytest.raises(BundleError, match=r"tokenizer/added_tokens\.json.*not listed"):
        load(folder)


def test_a_link_that_leads_out_is_refused(folder: Path, tmp_path: Path) -> None:
    inside, outside = folder / "tokenizer" / "tokenizer.json", tmp_path / "outside.json"
    inside.rename(outside)
    inside.symlink_to(outside)

    with pytest.raises(BundleError, match="leads out"):
        load(folder)


def test_a_link_to_itself_is_refused(folder: Path) -> None:
    (folder / "base" / "model.safetensors").unlink()
    (folder / "base" / "model.safetensors").symlink_to("model.safetensors")

    with pytest.raises(BundleError, match="leads nowhere"):
        load(folder)


def test_remote_code_is_refused(parts: dict[str, Path], tmp_path: Path) -> None:
    (parts["base"] / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')

    with pytest.raises(BundleError, match="remote code"):
        write(tmp_path / "evil", DESCRIPTION, parts)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b'{"format": 1}', b"[" * 100_000])
def test_a_broken_manifest_is_refused(folder: Path, content: bytes) -> None:
    (folder / "bundle.json").write_bytes(content)

    with pytest.raises(BundleError, match=r"bundle\.json"):
        load(folder)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"no bundle\.json"):
        load(tmp_path)


def test_a_failed_write_leaves_the_old_bundle_and_nothing_else(folder: Path, parts: dict[str, Path]) -> None:
    before = load(folder)
    (parts["tokenizer"] / "tokenizer.json").unlink()

    with pytest.raises(BundleError):
        write(folder, DESCRIPTION, parts)

    assert load(folder) == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["parts", "toy"]


def test_a_new_bundle_replaces_the_old_one_and_keeps_its_card(folder: Path, parts: dict[str, Path]) -> None:
    (folder / "README.md").write_text("the card")
    (parts["adapter"] / "adapter_model.safetensors").write_text("better weights")

    bundle = write(folder, DESCRIPTION, parts)

    assert (bundle.adapter / "adapter_model.safetensors").read_text() == "better weights"
    assert (folder / "README.md").read_text() == "the card"


@pytest.mark.parametrize(
    ("prepare", "named"),
    [
        pytest.param(lambda at: (at / "thesis.txt").write_text("mine"), r"'thesis\.txt' is no part", id="no-bundle"),
        pytest.param(
            lambda at: (at / "bundle.json").write_text('{"format": 1, "files": {}}') and (at / "x.py").write_text("x"),
            r"'x\.py' is no part",
            id="more-than-a-bundle",
        ),
        pytest.param(
            lambda at: ((at / "bundle.json").write_text("{}"), (at / "notes").mkdir(), (at / "notes" / "a").touch()),
            "'notes/a' is no part",
            id="somebody-elses-bundle.json",
        ),
        pytest.param(lambda at: (at.rmdir(), at.write_text("mine")), "a file, where a bundle is a folder", id="file"),
        pytest.param(lambda at: (at.rmdir(), at.symlink_to(at.parent / "parts")), "by no link", id="link"),
    ],
)
def test_what_is_no_bundle_is_never_replaced(
    tmp_path: Path, parts: dict[str, Path], prepare: Callable[[Path], object], named: str
) -> None:
    (precious := tmp_path / "precious").mkdir()
    prepare(precious)
    before = sorted((path, path.is_file() and path.read_text()) for path in tmp_path.rglob("*"))

    with pytest.raises(BundleError, match=named):
        write(precious, DESCRIPTION, parts)

    assert sorted((path, path.is_file() and path.read_text()) for path in tmp_path.rglob("*")) == before


def test_an_empty_folder_and_a_damaged_bundle_are_replaced(
    folder: Path, parts: dict[str, Path], tmp_path: Path
) -> None:
    (folder / "adapter" / "adapter_model.safetensors").write_text("damaged")
    rewrite(folder, lambda m: m.update(format=0))
    (tmp_path / "empty").mkdir()

    made = [write(place, DESCRIPTION, parts) for place in (folder, tmp_path / "empty")]

    assert [bundle.files for bundle in made] == [load(folder).files] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "parts", "toy"]


def test_loading_a_bundle_loads_no_torch(folder: Path) -> None:
    code = f"import sys; from worker.model.bundle import load; load({str(folder)!r}); print('torch' in sys.modules)"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "False"
