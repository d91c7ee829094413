"""Small causal models with random weights, for benchmarks that measure running, not answers."""

from __future__ import annotations

from pathlib import Path

from tryage import Expert, Library


def small_model(folder: Path, *, width: int, layers: int, seed: int) -> None:
    """Save a GPT-2 of random weights that never ends by itself, with a byte-level tokenizer."""
    import torch
    import transformers as tf
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tf.utils.logging.disable_progress_bar()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [], trainers.BpeTrainer(special_tokens=["<pad>"], initial_alphabet=alphabet)
    )
    fast = tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", model_max_length=256
    )
    torch.manual_seed(seed)
    config = tf.GPT2Config(
        vocab_size=len(fast),
        n_embd=width,
        n_layer=layers,
        n_head=8,
        n_positions=256,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    tf.GPT2LMHeadModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)


def small_library(root: Path, count: int, *, width: int, layers: int) -> Library:
    """Return a library of `count` such models under `root`."""
    for i in range(count):
        small_model(root / f"model-{i}", width=width, layers=layers, seed=i)
    experts = [Expert(name=f"model-{i}", model=f"./model-{i}") for i in range(count)]
    return Library(experts, name="small", root=root)
