"""The commit of a base that lies on a hub: a name stands for other weights tomorrow, a commit does not."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HFValidationError

from training.fit.bases import BASES
from training.fit.model import ModelError


def commit(base: str, revision: str | None) -> str:
    """Resolve an id and a branch or tag (none: main) to a commit, by the hub's cache if there is no hub.

    Raises ModelError.
    """
    for name, each in BASES.items():
        if base == each.id:  # on no hub; whatever a hub had under this name would be somebody else's
            message = f"{base}: made by `python -m training base {name}`, which prints its folder; give that by --base"
            raise ModelError(message)
    try:
        config = hf_hub_download(base, "config.json", revision=revision)
    except (OSError, HFValidationError) as error:  # what the hub's library raises is one or the other
        named = base if revision is None else f"{base} at {revision}"
        message = (
            f"{named}: no such folder, and it could not be read from the hub or its cache ({type(error).__name__}); "
            f"name a folder that has it, or fetch it where there is a network: hf download {base}"
        )
        raise ModelError(message) from None
    return Path(config).parent.name  # the cache keeps a commit's files at snapshots/<commit>/
