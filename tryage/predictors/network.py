"""A transformer that turns prompts into vectors and can be fine-tuned (extra `hf`).

Imported only when a network is built, because it needs torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tryage.encoders.base import prepare_all
from tryage.errors import EncoderError

_BATCH = 64


class Network:
    """Mean-pooled, unit-length vectors of a transformer.

    Args:
        model: a transformers model that returns hidden states.
        tokenizer: makes its tokens.
        max_tokens: prompts are truncated to this many tokens.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, *, max_tokens: int) -> None:
        # Unused here, and untrained in many pretrained models.
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
        self.model = model
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        self._tokenizer.enable_truncation(max_tokens)
        pad = getattr(model.config, "pad_token_id", None) or 0
        self._tokenizer.enable_padding(pad_id=pad, pad_token=tokenizer.id_to_token(pad) or "[PAD]")

    @classmethod
    def start(cls, model: str, *, revision: str | None, download: bool, max_tokens: int) -> Network:
        """Load a pretrained model from a folder or the local Hub cache.

        Raises:
            EncoderError: it is in neither, or has no fast tokenizer.
        """
        where = {
            "revision": revision,
            "local_files_only": not download,
            "trust_remote_code": False,
        }
        try:
            network = transformers.AutoModel.from_pretrained(
                model, use_safetensors=True, dtype=torch.float32, **where
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(model, **where)
        except (OSError, ValueError) as error:
            raise EncoderError(
                f"the network of {model!r} could not be loaded: it is neither a folder with a "
                "transformers model nor in the local Hub cache; name a folder, or fetch it with "
                f"SentenceEncoder({model!r}, download=True)"
            ) from error
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise EncoderError(f"{model!r} has no fast tokenizer; choose a model that has one")
        # A copy, because truncation and padding are set on it.
        copied = Tokenizer.from_str(backend.to_str())
        positions = getattr(network.config, "max_position_embeddings", None) or max_tokens
        return cls(network, copied, max_tokens=min(max_tokens, positions))

    @classmethod
    def restore(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Network:
        """Rebuild a network from its `config` and `arrays`."""
        architecture = transformers.AutoConfig.for_model(**config["architecture"])
        model = transformers.AutoModel.from_config(architecture, trust_remote_code=False)
        tokenizer = Tokenizer.from_str(arrays["tokenizer"].tobytes().decode())
        network = cls(model, tokenizer, max_tokens=int(config["max_tokens"]))
        model.load_state_dict(
            {
                name.removeprefix("network."): torch.from_numpy(np.array(array))
                for name, array in arrays.items()
                if name.startswith("network.")
            }
        )
        model.eval()
        return network

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.model.config.hidden_size)

    def config(self) -> dict[str, Any]:
        """Return the architecture as JSON types."""
        architecture = json.loads(self.model.config.to_json_string(use_diff=False))
        return {"architecture": architecture, "max_tokens": self.max_tokens}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return weights by name, and the tokenizer's JSON as bytes."""
        weights = {
            f"network.{name}": value.detach().cpu().contiguous().numpy()
            for name, value in self.model.state_dict().items()
        }
        text = self._tokenizer.to_str().encode()
        return weights | {"tokenizer": np.frombuffer(text, dtype=np.uint8)}

    def vectors(self, texts: Sequence[str]) -> Any:
        """Return unit vectors as a torch tensor with gradients, (n, dim)."""
        encodings = self._tokenizer.encode_batch(list(texts))
        ids = torch.tensor([encoding.ids for encoding in encodings])
        mask = torch.tensor([encoding.attention_mask for encoding in encodings])
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state  # (n, t, dim)
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
        return torch.nn.functional.normalize(pooled, dim=1)

    def encode(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (n_prompts, dim), without gradients.

        Raises:
            PromptError: `prompts` is a single str, or holds something that is not text.
        """
        texts = prepare_all(prompts)
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        # Texts of similar length share a batch, so that little is padded.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        with torch.inference_mode():
            for start in range(0, len(texts), _BATCH):
                rows = order[start : start + _BATCH]
                vectors[rows] = self.vectors([texts[row] for row in rows]).numpy()
        return vectors
