"""A small base of our own: its pieces and its weights made from the train rows and their labels, and nothing else.

It is a Llama in shape and on disk, so that all that follows takes it for one. Its weights are learnt as a classifier's,
on rows disguised and normalised; the head is then thrown away, and a new one is trained with the adapter.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any, Final

import torch
from msgspec import structs
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy, dropout
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from training.data.disguises import CUT
from training.data.split import LABELS
from training.fit import batches, checkpoint, epochs
from training.fit.model import guess_states
from worker.model.normalise import normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from training.data.split import Row
    from training.fit.batches import PaddedBatch
    from training.fit.recipe import Fit, Pretraining, Recipe

_UNKNOWN, _BEGIN, _END, _PAD = "<unk>", "<s>", "</s>", "<pad>"
_LOOK_EVERY: Final = 10  # steps after which a loss is read: a GPU that is asked after each waits for the next
_AVERAGE: Final = 0.995  # of the weights, over some 200 steps: better than the last ones, and steadier
POSITIONS: Final = 512
"""Positions of a base that is made here."""
_GUESSED: Final = 0.25  # of the next pieces, each step's own draw


def make_base(  # noqa: PLR0913 what a base is made of
    recipe: Recipe,
    rows: Sequence[Row],
    folder: Path,
    *,
    seed: int,
    progress: batches.ProgressCallback,
    labels: Sequence[str] = LABELS,
    kept: Path | None = None,
    taught: Sequence[Row] = (),
) -> None:
    """Write `base/` and `tokenizer/` into the folder. Raises ValueError when the recipe does not ask for it.

    `taught` are unlabelled rows with a teacher's probability each, of which every epoch draws some.
    `kept` is a folder for where it stands after each epoch, so that an interrupted run goes on there.
    """
    wanted = recipe.pretraining
    if wanted is None:
        message = f"recipe {recipe.name} has no [pretraining]"
        raise ValueError(message)
    rows, fit = epochs.repeated(rows, wanted.repeated), structs.replace(recipe.fit, taught=wanted.taught)
    texts = [normalise(row.text) for row in (*rows, *taught)]
    tokenizer = make_tokenizer(texts, wanted.vocabulary, wanted.alphabet)
    tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(seed)
    values = epochs.state_size(rows, taught)
    fresh = _fresh(wanted, tokenizer, labels, values).to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type] # transformers is untyped
    classifier = _learn(fresh, wanted, fit, rows, labels, tokenizer, seed, progress, kept, taught)
    _save(classifier, folder / "base")


def made_by(recipe: Recipe) -> tuple[object, ...]:
    """The part of a recipe that determines its base: equal parts make the same base of the same rows and seed."""
    fit = recipe.fit
    shares = (fit.cuts, fit.recased, fit.punctuated, fit.sloppy, fit.rehosted)
    return (recipe.pretraining, fit.max_tokens, *shares)


def make_tokenizer(texts: Sequence[str], vocabulary: int, alphabet: int = 120) -> PreTrainedTokenizerBase:
    """Byte-pair pieces of lower-cased words, digits and signs separate; what they cannot spell is spelt in bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token=_UNKNOWN, byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace(), pre_tokenizers.Digits(), pre_tokenizers.Punctuation(),
        pre_tokenizers.Split(CUT, "removed"),
    ])  # fmt: skip
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[_UNKNOWN, _BEGIN, _END, _PAD, *bytes_],
        limit_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin = tokenizer.token_to_id(_BEGIN)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_BEGIN} $A", pair=f"{_BEGIN} $A {_BEGIN} $B", special_tokens=[(_BEGIN, begin)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=_UNKNOWN, bos_token=_BEGIN, eos_token=_END, pad_token=_PAD
    )


def _fresh(
    wanted: Pretraining, tokenizer: PreTrainedTokenizerBase, labels: Sequence[str], values: int
) -> LlamaForSequenceClassification:
    model = LlamaForSequenceClassification(
        LlamaConfig(  # type: ignore[call-arg] # num_labels is a PreTrainedConfig's
            vocab_size=len(tokenizer),
            hidden_size=wanted.width,
            intermediate_size=wanted.intermediate,
            num_hidden_layers=wanted.layers,
            num_attention_heads=wanted.heads,
            num_key_value_heads=wanted.key_value_heads,
            max_position_embeddings=POSITIONS,
            num_labels=len(labels),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            tie_word_embeddings=True,
        )
    )
    if wanted.states and values:
        guess_states(model, values)
    return model


def _learn(  # noqa: PLR0913, PLR0917 a page of training has many inputs
    model: Any,  # noqa: ANN401 transformers is untyped
    wanted: Pretraining,
    fit: Fit,
    rows: Sequence[Row],
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    progress: batches.ProgressCallback,
    kept: Path | None,
    taught: Sequence[Row],
) -> Any:  # noqa: ANN401
    _drop_while_training(model, wanted.dropout)
    embedding = model.model.embed_tokens.weight
    matrices = [each for each in model.parameters() if each.dim() > 1 and each is not embedding]
    vectors = [each for each in model.parameters() if each.dim() == 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": wanted.weight_decay, "share": 1.0},
            {"params": vectors, "weight_decay": 0.0, "share": 1.0},
            {"params": [embedding], "weight_decay": wanted.weight_decay, "share": wanted.embedding},
        ],
        lr=wanted.learning_rate,
        betas=(0.9, 0.98),
        fused=True,
    )
    per_epoch = math.ceil(epochs.size(rows, taught, fit) / wanted.batch)
    steps = wanted.epochs * per_epoch
    weights = dict(model.named_parameters())
    learnt = [each.detach() for each in weights.values()]
    average = [each.clone() for each in learnt]
    state = checkpoint.TrainingState(weights, dict(zip(weights, average, strict=True)), optimizer)
    device = average[0].device
    step, seen = state.resume(kept) if kept else 0, math.nan
    model.train()
    left = range(step // per_epoch, wanted.epochs)
    for epoch, (drawn, texts) in zip(left, epochs.in_turn(rows, taught, fit, seed, left), strict=True):
        torch.manual_seed(hash((seed, epoch)))
        dice = random.Random(f"{seed}-{epoch}-order")
        examples = epochs.examples(drawn, texts, tokenizer, labels, fit.max_tokens)
        for batch in batches.by_length(examples, wanted.batch, dice, pad=tokenizer.pad_token_id):
            rate = wanted.learning_rate * batches.warm_then_fall(step, steps, wanted.warmup_steps)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            is_shown = torch.rand(batch.ids.shape) >= wanted.token_dropout
            ids = torch.where(is_shown | (batch.ids == tokenizer.bos_token_id), batch.ids, tokenizer.unk_token_id)
            states = model.model(input_ids=ids.to(device), attention_mask=batch.mask.to(device)).last_hidden_state
            ends = (batch.mask.sum(dim=1) - 1).to(device)
            pooled = states[torch.arange(len(ends), device=device), ends]
            loss = batches.loss(model.score(pooled), batch.labels.to(device), batch.spam.to(device)) / len(ends)
            if wanted.states and batch.states.shape[1]:
                guessed = batches.state_loss(model.states(pooled), batch.states.to(device)) / len(ends)
                loss = loss + wanted.states * guessed
            if wanted.language:
                loss = loss + wanted.language * _next_piece_loss(model, states, batch)
            if device.type == "cpu" or step % _LOOK_EVERY == 0:
                seen = loss.item()
                batches.require_finite([seen], step)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            torch._foreach_lerp_(average, learnt, 1 - _AVERAGE)
            progress(f"base, epoch {epoch + 1}/{wanted.epochs}", step, steps, seen, int(batch.mask.sum()))
        if kept:
            state.save(kept, step)
    with torch.no_grad():
        torch._foreach_copy_(learnt, average)
    return model


def _next_piece_loss(model: Any, states: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:  # noqa: ANN401
    """Cross-entropy (nats) of each next piece by the tied embeddings, at a quarter of places: vocabularies are wide."""
    asked = (batch.mask[:, 1:] > 0) & (torch.rand(batch.mask[:, 1:].shape) < _GUESSED)
    at, answers = asked.flatten().nonzero()[:, 0], batch.ids[:, 1:][asked]
    guesses = states[:, :-1].flatten(0, 1)[at.to(states.device)] @ model.model.embed_tokens.weight.T
    return cross_entropy(guesses, answers.to(states.device))


def _drop_while_training(model: Any, share: float) -> None:  # noqa: ANN401
    """Llama has no dropout of its own; four thousand messages need some."""

    def dropped(module: Any, _: Any, output: Any) -> Any:  # noqa: ANN401
        if isinstance(output, tuple):
            return (dropout(output[0], share, module.training), *output[1:])
        return dropout(output, share, module.training)

    parts: list[Callable[..., Any]] = [model.model.embed_tokens]
    for layer in model.model.layers:
        parts += [layer.self_attn, layer.mlp]
    for part in parts:
        part.register_forward_hook(dropped)  # type: ignore[attr-defined]


def _save(classifier: Any, folder: Path) -> None:  # noqa: ANN401
    """As a causal model with tied embeddings, which is how a base comes; NF4 keeps less than half precision does."""
    base = LlamaForCausalLM(classifier.config)
    classifier = classifier.cpu()
    base.model.load_state_dict(classifier.model.state_dict())
    base.tie_weights()
    base.half().save_pretrained(folder)
