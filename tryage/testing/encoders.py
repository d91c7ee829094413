"""`check_encoder`: what predictors rely on of an encoder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tryage.encoders import Encoder
from tryage.errors import PromptError
from tryage.testing.contracts import (
    ODD_PROMPTS,
    in_threads,
    require,
    require_close,
    require_raises,
    run_contracts,
)

PROMPTS = (
    "Write a function that merges two sorted lists.",
    "May the court of appeal dismiss the claim?",
    "How long do I bake rye bread?",
    "¿Cuántos días tiene un año bisiesto?",
)

IN_BATCH = 1e-4


def check_encoder(
    encoder: Encoder,
    *,
    load: Callable[[Mapping[str, Any], Path], Encoder] | None = None,
    skip: Collection[str] = (),
) -> None:
    """Test that an encoder keeps what predictors rely on.

    Args:
        encoder: the encoder.
        load: makes an encoder of what `save` returned and of the folder it wrote to, as
            `tryage.encoders.load_encoder` does; None: loading is not tested.
        skip: names of contracts that are not tested.

    Raises:
        ContractError: a contract is broken; the message and `contract` name it.
        OptionError: `skip` names no contract.
    """
    suite = _Suite(encoder, load)
    run_contracts(
        encoder,
        (
            suite.protocol,
            suite.shapes,
            suite.unit_length,
            suite.no_prompts,
            suite.odd_prompts,
            suite.wrong_input,
            suite.determinism,
            suite.batch_equals_single,
            suite.order_of_prompts,
            suite.tells_texts_apart,
            suite.no_mutation,
            suite.save_and_load,
            suite.threads,
        ),
        skip,
    )


class _Suite:
    def __init__(
        self, encoder: Encoder, load: Callable[[Mapping[str, Any], Path], Encoder] | None
    ) -> None:
        self.encoder = encoder
        self.load = load

    def protocol(self) -> None:
        require(isinstance(self.encoder, Encoder), "it lacks name, dim, encode or save")
        name, dim = self.encoder.name, self.encoder.dim
        require(isinstance(name, str) and bool(name), f"name is {name!r}, not a text")
        require(isinstance(dim, int) and dim > 0, f"dim is {dim!r}, not a positive integer")

    def shapes(self) -> None:
        self._vectors(PROMPTS)
        self._vectors(PROMPTS[:1])

    def unit_length(self) -> None:
        lengths = np.linalg.norm(self._vectors((*PROMPTS, *ODD_PROMPTS)), axis=1)
        wrong = (np.abs(lengths - 1) > 1e-3) & (lengths > 0)
        require(
            not wrong.any(),
            f"a vector has the length {lengths[wrong][:1]}; it must be 1, or 0 in all places",
        )

    def no_prompts(self) -> None:
        self._vectors(())

    def odd_prompts(self) -> None:
        for prompt in ODD_PROMPTS:
            vectors = self._vectors((prompt,))
            require(
                bool(np.isfinite(vectors).all()), f"the vector of {prompt[:20]!r} is not finite"
            )

    def wrong_input(self) -> None:
        one: Any = PROMPTS[0]
        number: Any = [7]
        kinds = (PromptError, TypeError, ValueError)
        require_raises(lambda: self.encoder.encode(one), *kinds, what="a str instead of a list")
        require_raises(lambda: self.encoder.encode(number), *kinds, what="a prompt that is 7")

    def determinism(self) -> None:
        once, again = self._vectors(PROMPTS), self._vectors(PROMPTS)
        require_close(once, again, "the same prompts, encoded twice", within=0.0)

    def batch_equals_single(self) -> None:
        texts = (*PROMPTS, *ODD_PROMPTS)
        together = self._vectors(texts)
        for row, text in enumerate(texts):
            what = "a prompt in a batch and alone"
            require_close(together[row], self._vectors((text,))[0], what, within=IN_BATCH)

    def order_of_prompts(self) -> None:
        turned = self._vectors(PROMPTS[::-1])
        what = "prompts in another order"
        require_close(self._vectors(PROMPTS)[::-1], turned, what, within=IN_BATCH)

    def tells_texts_apart(self) -> None:
        vectors = self._vectors(PROMPTS)
        cosines = vectors @ vectors.T
        highest = float(cosines[~np.eye(len(PROMPTS), dtype=bool)].max())
        require(highest < 0.999, "prompts about different things have the same vector")

    def no_mutation(self) -> None:
        prompts = list(PROMPTS)
        vectors = self.encoder.encode(prompts)
        require(prompts == list(PROMPTS), "encode changed its input")
        before = vectors.copy()
        if vectors.flags.writeable:
            vectors[:] = 0
        what = "a prompt's vector before and after the caller wrote into what encode returned"
        require_close(before, self._vectors(PROMPTS), what, within=0.0)

    def save_and_load(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            config = self.encoder.save(Path(folder))
            try:
                stored = json.loads(json.dumps(config))
            except (TypeError, ValueError) as error:
                require(False, f"save returned what is not JSON: {error}")
            require(
                isinstance(stored, dict) and isinstance(stored.get("kind"), str),
                f"save returned {stored!r}; it must be a mapping with a text under 'kind'",
            )
            if self.load is not None:
                loaded = self.load(stored, Path(folder))
                what = "vectors before save and after loading"
                require_close(self._vectors(PROMPTS), loaded.encode(PROMPTS), what, within=1e-6)

    def threads(self) -> None:
        expected = self._vectors(PROMPTS)
        for vectors in in_threads(lambda: self._vectors(PROMPTS)):
            require_close(expected, vectors, "vectors of several threads", within=IN_BATCH)

    def _vectors(self, prompts: tuple[str, ...]) -> Any:
        vectors = self.encoder.encode(list(prompts))
        shape = (len(prompts), self.encoder.dim)
        require(
            isinstance(vectors, np.ndarray)
            and vectors.shape == shape
            and vectors.dtype == np.float32,
            f"encode returned {getattr(vectors, 'dtype', type(vectors).__name__)} of shape "
            f"{np.shape(vectors)}; it must be float32 of shape {shape}",
        )
        return vectors
