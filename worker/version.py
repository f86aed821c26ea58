"""The version that is installed, and the commit that an image was built of."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Final

COMMIT_VARIABLE: Final = "SOURCE_COMMIT"
"""Not a setting: the image is stamped with it when it is built."""


def version() -> str:
    """The version installed, or `source` when run from a folder that was never installed."""
    try:
        return metadata.version("hamgate")
    except metadata.PackageNotFoundError:
        return "source"


def commit() -> str:
    """The commit, where it is known."""
    return os.environ.get(COMMIT_VARIABLE, "unknown")


def in_full() -> str:
    """Both, and Python's: for a report of trouble."""
    return f"hamgate {version()}, commit {commit()}, Python {platform.python_version()}"
