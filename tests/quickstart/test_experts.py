import dataclasses

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tryage.quickstart import Recipe, experts

TEXTS = [
    "def area(width, height):\n    return width * height\n\n" * 20,
    "for name in names:\n    print(name.lower())\n\n" * 20,
]
WRITER = Recipe(
    "writer", "python", "text-generation", 32, 1, 12, vocabulary=300, batch=2, window=32
)
FILLER = dataclasses.replace(WRITER, name="filler", task="fill-mask")
TOKENIZER = experts.train_tokenizer(TEXTS, 300)


@pytest.fixture(autouse=True)
def _quiet_saving():
    transformers.utils.logging.disable_progress_bar()


@pytest.mark.parametrize("recipe", [WRITER, FILLER], ids=lambda recipe: recipe.task)
def test_an_expert_loads_through_transformers_pipeline(recipe, tmp_path):
    steps = []
    experts.train(recipe, TEXTS, tmp_path / "model", progress=steps.append)
    assert steps == list(range(1, 13))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    assert (tmp_path / "model" / "model.safetensors").is_file()
    pipe = transformers.pipeline(recipe.task, model=str(tmp_path / "model"))
    if recipe is WRITER:
        answer = pipe("def area(", max_new_tokens=4, max_length=None)[0]["generated_text"]
        assert answer.startswith("def area(")
    else:
        assert "token_str" in pipe("for name in <mask>:")[0]


@pytest.mark.parametrize("recipe", [WRITER, FILLER], ids=lambda recipe: recipe.task)
def test_an_interrupted_training_ends_with_the_same_weights(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(experts, "_CHECKPOINT_STEPS", 5)
    experts.train(recipe, TEXTS, tmp_path / "whole")

    def interrupt(step):
        if step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experts.train(recipe, TEXTS, tmp_path / "cut", progress=interrupt)
    assert not (tmp_path / "cut").exists()
    steps = []
    experts.train(recipe, TEXTS, tmp_path / "cut", progress=steps.append)
    assert steps[0] == 6
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    assert not list(tmp_path.rglob("*.training"))


def test_a_checkpoint_of_another_recipe_is_left_alone(tmp_path):
    trainer = experts._Trainer(WRITER, TEXTS)
    trainer.advance()
    trainer.checkpoint(tmp_path)
    other = experts._Trainer(dataclasses.replace(WRITER, steps=20), TEXTS)
    other.restore(tmp_path)
    assert other.step == 0


def test_a_checkpoint_of_another_optimizer_starts_the_training_again(tmp_path):
    trainer = experts._Trainer(WRITER, TEXTS)
    trainer.advance()
    trainer.checkpoint(tmp_path)
    path = tmp_path / "state.safetensors"
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    del about["optimizer"]  # as before there was torch.optim.Muon
    save_file(tensors, path, about)
    trainer = experts._Trainer(WRITER, TEXTS)
    trainer.restore(tmp_path)
    assert trainer.step == 0


def test_a_cut_checkpoint_starts_the_training_again(tmp_path):
    trainer = experts._Trainer(WRITER, TEXTS)
    trainer.advance()
    trainer.checkpoint(tmp_path)
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    trainer = experts._Trainer(WRITER, TEXTS)
    trainer.restore(tmp_path)
    assert trainer.step == 0


def test_words_are_numbered_whole_and_punctuation_is_no_word():
    trainer = experts._Trainer(FILLER, ["widths = (heights, 12)"] * 3)
    tokens = [trainer.tokenizer.id_to_token(i) for i in trainer.ids.tolist()]
    for token, is_word in zip(tokens, trainer.is_word.tolist(), strict=True):
        plain = token.strip("Ġ<>/")
        assert is_word == (token != "</s>" and any(c.isalnum() for c in plain))
    numbers = trainer.words.tolist()
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 3 * len({"widths", " =", " (", "heights", ",", " 12", ")", "end"})


@settings(max_examples=60, deadline=None)
@given(text=st.text())
def test_any_text_can_be_written_and_read_back(text):
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    plain = text.encode("utf-8", "replace").decode()
    if not any(mark in plain for mark in experts._SPECIAL):
        assert TOKENIZER.decode(ids, skip_special_tokens=False) == plain
