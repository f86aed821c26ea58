"""An error of the CUDA runtime is raised where it occurs, and not again at the next call."""

from __future__ import annotations

import ctypes

import pytest
import torch

from worker.engine import gpu

OUT_OF_MEMORY, NO_DRIVER = 2, 35


class Runtime:
    """A runtime that answers every call in the same way."""

    def __init__(self, answer: int) -> None:
        self.answer, self.last = answer, 0
        self.calls: list[tuple[int, ...]] = []

    def cudaGraphLaunch(self, *arguments: int) -> int:  # noqa: N802 its own name
        self.calls.append(arguments)
        self.last = self.answer
        return self.answer

    def cudaGetLastError(self) -> int:  # noqa: N802
        last, self.last = self.last, 0
        return last

    def cudaGetErrorString(self, failure: int) -> bytes:  # noqa: N802
        return b"failure %d" % failure


def test_a_call_that_succeeds_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime(0)
    monkeypatch.setattr(gpu, "_runtime", lambda: runtime)

    gpu._call("cudaGraphLaunch", 7, 8)

    assert runtime.calls == [(7, 8)]


@pytest.mark.parametrize(
    ("failure", "kind"), [(OUT_OF_MEMORY, torch.OutOfMemoryError), (NO_DRIVER, RuntimeError), (700, RuntimeError)]
)
def test_a_call_that_fails_is_named_and_leaves_no_error_behind(
    failure: int, kind: type[RuntimeError], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(failure)
    monkeypatch.setattr(gpu, "_runtime", lambda: runtime)

    with pytest.raises(kind, match=f"cudaGraphLaunch: failure {failure}") as raised:
        gpu._call("cudaGraphLaunch", 7, 8)

    assert isinstance(raised.value, torch.OutOfMemoryError) == (failure == OUT_OF_MEMORY)
    assert runtime.last == 0


def test_the_runtime_that_torch_has_loaded_is_the_one_that_is_called() -> None:
    if not hasattr(ctypes.PyDLL(None), "cudaGraphLaunch"):
        pytest.skip("torch is built without CUDA")
    if torch.cuda.is_available():
        pytest.skip("a GPU would be asked to launch nothing; tests/gpu launches graphs")

    with pytest.raises(RuntimeError, match=r"^cudaGraphLaunch: .*driver"):
        gpu._call("cudaGraphLaunch", 0, 0)
