"""Where an imported head is read: PEFT reads it at a text's last token that is not the pad, the worker at the last."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from training.bundle.adapters import AdapterError
from worker.engine import files
from worker.model.tokenizer import parse

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase


def pad(adapter: Path, base: Path, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the pad that training knew: of a config.json beside the adapter, the base's, or else the tokenizer's."""
    for path in (adapter / files.CONFIG, base / files.CONFIG):
        named: Any = files.config(path).get("pad_token_id") if path.is_file() else None
        if isinstance(named, int):
            return named
    of_tokenizer: Any = tokenizer.pad_token_id
    return of_tokenizer  # type: ignore[no-any-return]


def end_before(folder: Path, pad: int | None) -> list[int]:
    """Let a tokenizer put no pad behind a text, in its folder: the last token is then where PEFT reads the head.

    Attention is causal, so what stands behind that token changes nothing. Returns what it has put there until now.
    Raises AdapterError.
    """
    file = folder / "tokenizer.json"
    before = parse(file.read_bytes()).encode("ok").ids
    if not before or before[-1] != pad:
        return []
    description = json.loads(file.read_bytes())
    processor = description.get("post_processor") or {}
    for each in processor.get("processors", [processor]):
        known = {name: said["ids"] for name, said in each.get("special_tokens", {}).items()}
        while each.get("single") and known.get(each["single"][-1].get("SpecialToken", {}).get("id")) == [pad]:
            each["single"].pop()
    content = json.dumps(description, ensure_ascii=False).encode()
    after = parse(content).encode("ok").ids
    if not after or after[-1] == pad or after != before[: len(after)]:
        message = (
            f"its tokenizer puts token {pad}, which is the pad too, behind each text: PEFT reads the head before it, "
            "and the worker would at it; save the tokenizer without it (add_eos_token)"
        )
        raise AdapterError(message)
    file.write_bytes(content)
    return before[len(after) :]
