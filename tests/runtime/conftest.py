"""Fixtures of the runtime's tests."""

import pytest


@pytest.fixture
def never_ending(monkeypatch):
    """Return a function that keeps a pipeline's model from ending an answer by itself."""
    tokenizers = []

    def change(pipeline):
        tokenizer = pipeline.tokenizer
        tokenizers.append((tokenizer, tokenizer.eos_token_id))
        tokenizer.eos_token_id = tokenizer.pad_token_id
        settings = pipeline.model.generation_config
        monkeypatch.setattr(settings, "eos_token_id", tokenizer.pad_token_id)

    yield change
    for tokenizer, end in tokenizers:
        tokenizer.eos_token_id = end
