"""Both teachers at toy size, with random weights: what they say means nothing, that it comes through is the test."""

from __future__ import annotations

import string

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from training.fit.encoder import Encoder
from training.teacher.writer import BEGIN, END, WritingTeacher

_UNKNOWN = "<unk>"
_LETTERS = string.ascii_letters + string.digits + string.punctuation + " \n"


def encoder() -> Encoder:
    """An encoder of letters, two layers deep."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), (_UNKNOWN, 0.0), *[(letter, -3.0) for letter in _LETTERS]]
    tokenizer = Tokenizer(models.Unigram(pieces, 3, byte_fallback=False))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    shape = BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=512, pad_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    return Encoder(BertModel(shape, add_pooling_layer=False), tokenizer, {}, 160)


def writer() -> WritingTeacher:
    """A language model of letters, one layer deep."""
    vocabulary = {letter: at for at, letter in enumerate([_UNKNOWN, BEGIN, END, *_LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"<\|im_start\|>|<\|im_end\|>|[\s\S]"), "isolated")
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=_UNKNOWN, additional_special_tokens=[BEGIN, END]
    )
    shape = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, pad_token_id=2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    return WritingTeacher(LlamaForCausalLM(shape), wrapped)
