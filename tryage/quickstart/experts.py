"""Train one small Hugging Face expert on one domain's text, resumably.

Everything random follows from the recipe's seed and the step's number, so a training that was
interrupted and resumed ends with the same weights as one that ran through.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tryage.errors import missing_extra
from tryage.experts import TEXT_GENERATION
from tryage.files import replacing, replacing_folder, write_text
from tryage.quickstart.optimizer import Optimizer
from tryage.quickstart.recipes import CONTEXT, Recipe

try:
    import numpy as np
    import torch
    import transformers
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file, save_file
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer
except ImportError as error:
    raise missing_extra("hf", "training experts") from error

PAD, START, END, MASK = "<pad>", "<s>", "</s>", "<mask>"
_SPECIAL = (PAD, START, END, MASK)
_PAD, _START, _END, _MASK = range(4)

_NEIGHBOURS = 8
"""Tokens that a filler's layer looks at, half on either side. In a few hundred steps a layer that
sees everything learns to average it; one that sees only its neighbours learns to use them."""

_CHECKPOINT_STEPS = 100
_IGNORED = -100

Progress = Callable[[int], None]
"""Called with the number of steps done."""


def train(
    recipe: Recipe, texts: Sequence[str], folder: Path, *, progress: Progress | None = None
) -> None:
    """Train an expert and save it; an interrupted training is resumed.

    Args:
        recipe: what to train.
        texts: the training files of its domain.
        folder: where the model goes; appears whole or not at all. A folder of the same name with
            ``.training`` behind it holds the state meanwhile.
        progress: called after every step.
    """
    state = folder.with_name(folder.name + ".training")
    trainer = _Trainer(recipe, texts)
    trainer.restore(state)
    while trainer.step < recipe.steps:
        trainer.advance()
        if progress is not None:
            progress(trainer.step)
        if trainer.step % _CHECKPOINT_STEPS == 0 and trainer.step < recipe.steps:
            trainer.checkpoint(state)
    with replacing_folder(folder) as temporary:
        trainer.save(temporary)
    shutil.rmtree(state, ignore_errors=True)


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer: any text can be written with it, and read back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # The space before a hidden word goes with the word, as it does in the running text.
    special = [AddedToken(t, lstrip=t == MASK, normalized=False, special=True) for t in _SPECIAL]
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, _START)]),
        ]
    )
    return tokenizer


class _Trainer:
    """Model, optimizer and tokens of one training."""

    def __init__(self, recipe: Recipe, texts: Sequence[str]) -> None:
        self.recipe = recipe
        self.tokenizer = train_tokenizer(texts, recipe.vocabulary)
        self._tokenize(texts)
        torch.manual_seed(recipe.seed)
        self.model = self._build()
        self.parameters = dict(self.model.named_parameters())
        self.optimizer = Optimizer(self.parameters, recipe.learning_rate, recipe.steps)

    @property
    def step(self) -> int:
        """How many steps are done."""
        return self.optimizer.steps

    @property
    def causal(self) -> bool:
        return self.recipe.task == TEXT_GENERATION

    def _tokenize(self, texts: Sequence[str]) -> None:
        """Tokenize the text into one row; note which tokens are of which word."""
        ids: list[int] = []
        words: list[int] = []
        is_word: list[bool] = []
        for text in texts:
            encoding = self.tokenizer.encode(text, add_special_tokens=False)
            base = words[-1] + 1 if words else 0
            ids += [*encoding.ids, _END]
            numbers = [base + int(number or 0) for number in encoding.word_ids]
            words += [*numbers, numbers[-1] + 1 if numbers else base]
            spans = encoding.offsets
            is_word += [any(c.isalnum() for c in text[a:b]) for a, b in spans]
            is_word.append(False)
        self.ids = torch.tensor(ids)  # (tokens,)
        self.words = torch.from_numpy(np.asarray(words))  # (tokens,) number of each token's word
        self.is_word = torch.tensor(is_word)  # (tokens,) False for punctuation and space

    def _build(self) -> Any:
        recipe = self.recipe
        shared = {
            "vocab_size": self.tokenizer.get_vocab_size(),
            "hidden_size": recipe.hidden,
            "num_hidden_layers": recipe.layers,
            "num_attention_heads": recipe.hidden // 32,
            "max_position_embeddings": CONTEXT,
            "pad_token_id": _PAD,
            "bos_token_id": _START,
            "eos_token_id": _END,
            "tie_word_embeddings": True,
            "initializer_range": 0.05,
        }
        if self.causal:
            wide = recipe.hidden * 8 // 3 // 8 * 8
            config = transformers.LlamaConfig(intermediate_size=wide, **shared)
            return transformers.LlamaForCausalLM(config)
        config = transformers.ModernBertConfig(
            intermediate_size=2 * recipe.hidden,
            layer_types=["sliding_attention"] * recipe.layers,
            local_attention=_NEIGHBOURS,
            cls_token_id=_START,
            sep_token_id=_END,
            **shared,
        )
        model = transformers.ModernBertForMaskedLM(config)
        # Starting from how frequent words are saves the steps that would learn just that.
        hidden = self.ids[self.is_word]
        counts = torch.bincount(hidden, minlength=shared["vocab_size"]).float() + 0.1
        with torch.no_grad():
            model.decoder.bias.copy_((counts / counts.sum()).log())
        return model

    def advance(self) -> None:
        """Do one step."""
        recipe = self.recipe
        self.model.train()
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + self.step)
        loss = self._causal_loss(generator) if self.causal else self._masked_loss(generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def _windows(self, generator: torch.Generator) -> torch.Tensor:
        """Token positions of this step's windows, (batch, window - 1); a start token leads each."""
        span = min(self.recipe.window, len(self.ids)) - 1
        last = len(self.ids) - span
        first = torch.randint(0, last, (self.recipe.batch, 1), generator=generator)
        return first + torch.arange(span)

    def _causal_loss(self, generator: torch.Generator) -> torch.Tensor:
        ids = self.ids[self._windows(generator)]
        ids = torch.cat([torch.full((len(ids), 1), _START), ids], dim=1)  # (batch, window)
        loss: torch.Tensor = self.model(input_ids=ids, labels=ids).loss
        return loss

    def _masked_loss(self, generator: torch.Generator) -> torch.Tensor:
        at = self._windows(generator)
        # One draw per word, so that a word's tokens are hidden together.
        draws = torch.rand(at.shape, generator=generator)
        words = self.words[at] - self.words[at[:, :1]]  # (batch, window - 1), from 0
        hidden = (draws.gather(1, words) < self.recipe.hide) & self.is_word[at]
        hidden[0, 0] |= not bool(hidden.any())
        ids = self.ids[at]
        targets = ids[hidden]
        start = torch.full((len(ids), 1), _START)
        inputs = torch.cat([start, ids.masked_fill(hidden, _MASK)], dim=1)
        states = self.model.model(input_ids=inputs, attention_mask=torch.ones_like(inputs))[0]
        # Scores are computed only where a word is hidden: most of a step's work saved.
        logits = self.model.decoder(self.model.head(states[:, 1:][hidden]))
        return torch.nn.functional.cross_entropy(logits, targets)

    def checkpoint(self, folder: Path) -> None:
        """Write weights and optimizer state; the file appears whole or not at all."""
        weights = {f"weight.{name}": value.detach() for name, value in self.parameters.items()}
        about = {"step": str(self.step), **self._key()}
        with replacing(folder / "state.safetensors") as temporary:
            save_file({**weights, **self.optimizer.state()}, temporary, metadata=about)

    def restore(self, folder: Path) -> None:
        """Continue from a checkpoint of the same recipe, if there is one."""
        path = folder / "state.safetensors"
        if not path.is_file():
            return
        try:
            about = _metadata(path)
            tensors = load_file(path)
        except SafetensorError:  # cut short by a crash of the machine: begin again
            return
        if not self._key().items() <= about.items():
            return
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"weight.{name}"])
        self.optimizer.load(tensors, int(about["step"]))

    def _key(self) -> dict[str, str]:
        """Return what a checkpoint must state so that it can be continued."""
        recipe = json.dumps(self.recipe.to_dict())
        return {"optimizer": "torch.optim", "recipe": recipe}

    def save(self, folder: Path) -> None:
        """Save model, tokenizer and a card, as `transformers.pipeline` loads them."""
        self.model.eval().save_pretrained(folder)
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=self.tokenizer,
            pad_token=PAD,
            bos_token=START,
            eos_token=END,
            mask_token=MASK,
            model_max_length=CONTEXT,
        ).save_pretrained(folder)
        recipe = self.recipe
        write_text(
            folder / "README.md",
            f"# {recipe.name}\n\n"
            f"A small {recipe.task} model that `tryage quickstart` trained on this machine for "
            f"{recipe.steps} steps of {recipe.batch * recipe.window} tokens, on {recipe.domain} "
            "text that this Python installation carries. The text stands under the licenses of "
            "the packages that it is from. For demonstration; not for use.\n",
        )


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="np") as file:
        return dict(file.metadata() or {})
