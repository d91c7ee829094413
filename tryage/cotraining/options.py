"""The options of a co-training, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from tryage.errors import OptionError, did_you_mean

Mode = Literal["rounds", "joint"]
Assignment = Literal["router", "random", "groups", "frozen"]
Guarded = Literal["served", "all"]
Schedule = Literal["cosine", "linear", "constant"]

_CHOICES = {"mode": Mode, "assign": Assignment, "guard": Guarded, "schedule": Schedule}

_SHARES = ("explore", "min_share", "held_out", "labelled", "warmup")
"""Options from 0 to below 1."""

_POSITIVE = (
    "learning_rate",
    "epochs",
    "batch",
    "batch_tokens",
    "max_window",
    "mask_share",
    "temperature",
    "last_temperature",
    "gate_rate",
)


@dataclass(frozen=True, kw_only=True)
class CotrainingOptions:
    """How router and experts are trained together; two equal values give the same result.

    Attributes:
        rounds: how many rounds; a finished folder is continued by a higher number (not in joint
            training, whose temperature depends on it).
        task: the task whose experts are trained; None takes the only one that the router has.
        mode: ``"rounds"`` trains each expert on the prompts assigned to it, one expert after the
            other; ``"joint"`` trains all of them and a softmax gate by one gradient.
        assign: who assigns the prompts: ``"router"``; ``"random"``, each expert alike; ``"groups"``
            each group to its own expert; ``"frozen"`` trains no expert.
        groups: group → expert, for ``assign="groups"``.
        explore: share of the prompts that go to another expert than the assigned one.
        min_share: least share of a round's prompts that an expert gets, before exploration. A
            share that all experts together cannot have is lowered to their equal share.
        max_share: largest share of a round's prompts that one expert gets, before exploration.
        max_rise: most that the loss of a group may rise by an expert's update, relative to its
            loss before; above it the update is rolled back.
        guard: prompts that the bound holds for: ``"served"``, those of the labelling sample that
            the router sends to that expert; ``"all"``, the whole labelling sample.
        held_out: share of the prompts that are only measured, never trained or fitted on.
        labelled: share of the prompts that the router is fitted on and updates are judged by;
            experts are not trained on them either.
        most_measured: most prompts of each of these two parts; it lowers their shares.
        per_round: prompts of the stream in one round, the next ones in each; None takes all.
        epochs: passes of an expert over its prompts in one round.
        max_steps: most steps of one expert in one round; None sets no limit.
        learning_rate: highest rate of AdamW in a round.
        schedule: how the rate falls in a round (`transformers.get_scheduler`).
        warmup: share of a round's steps over which the rate rises.
        weight_decay: of AdamW.
        batch: texts of one step, or windows of longer texts.
        batch_tokens: tokens of one step at most, padding included; bounds memory.
        max_window: tokens of a text read at once at most, in training and measuring.
        mask_share: share of the words that fill-mask experts do not see.
        lora_rank: rank of LoRA's matrices (extra `lora`); they are merged into the weights at the
            end of each update. None trains all weights.
        temperature: of the gate's softmax at the start of joint training, in bits per byte.
        last_temperature: the same at the end of its last round; it falls evenly on a log scale.
        balance: weight of the term that keeps the gate's shares equal, in bits per byte.
        gate_rate: highest learning rate of the gate.
        seed: of everything random.
        device: where experts are trained and measured, as for `tryage.runtime.Runtime`.
    """

    rounds: int = 5
    task: str | None = None
    mode: Mode = "rounds"
    assign: Assignment = "router"
    groups: Mapping[str, str] | None = None
    explore: float = 0.1
    min_share: float = 0.05
    max_share: float = 0.8
    max_rise: float = 0.05
    guard: Guarded = "served"
    held_out: float = 0.2
    labelled: float = 0.2
    most_measured: int = 2000
    per_round: int | None = None
    epochs: int = 1
    max_steps: int | None = None
    learning_rate: float = 1e-4
    schedule: Schedule = "cosine"
    warmup: float = 0.1
    weight_decay: float = 0.01
    batch: int = 8
    batch_tokens: int = 2048
    max_window: int = 512
    mask_share: float = 0.15
    lora_rank: int | None = None
    temperature: float = 0.5
    last_temperature: float = 0.05
    balance: float = 0.01
    gate_rate: float = 1e-2
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in get_args(choices):
                options = ", ".join(map(repr, get_args(choices)))
                hint = did_you_mean(str(value), get_args(choices))
                raise OptionError(f"{name} is {value!r}; it is one of {options}.{hint}")
        self._check_numbers()
        self._check_together()

    def _check_numbers(self) -> None:
        for name in _SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it is from 0 to below 1")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} is {getattr(self, name)}; it is above 0")
        for name in ("rounds", "most_measured", "per_round", "max_steps", "lora_rank"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"{name} is {value}; it is at least 1")

    def _check_together(self) -> None:
        if not self.min_share < self.max_share <= 1:
            raise OptionError(
                f"max_share is {self.max_share}; it is above min_share, {self.min_share}, and at "
                "most 1"
            )
        if self.mode == "joint" and self.assign != "router":
            raise OptionError(
                f"assign is {self.assign!r}; in the mode 'joint' the router's gate weighs all "
                "experts, so it is 'router'"
            )
        if not self.balance >= 0:
            raise OptionError(f"balance is {self.balance}; it is at least 0")
        if not self.max_rise >= 0:
            raise OptionError(f"max_rise is {self.max_rise}; it is at least 0")
        if self.held_out + self.labelled >= 1:
            raise OptionError(
                f"held_out {self.held_out} and labelled {self.labelled} leave no prompts to train "
                "on; together they are below 1"
            )
        if (self.assign == "groups") != (self.groups is not None):
            raise OptionError(
                "assign='groups' and groups={group: expert} go together; give both or neither"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON holds them."""
        return {**asdict(self), "groups": None if self.groups is None else dict(self.groups)}

    def changes(self, began: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Return the options that differ from those that began a folder: name → (then, now).

        Args:
            began: what `to_dict` returned then. An option that is not in it had its default.
        """
        now = self.to_dict()
        defaults = {option.name: option.default for option in fields(self)}
        then = {name: began.get(name, defaults[name]) for name in now}
        # More rounds continue a folder; in joint training the temperature depends on their number.
        free = ("rounds",) if self.mode == "rounds" else ()
        return {
            name: (then[name], value)
            for name, value in now.items()
            if name not in free and then[name] != value
        }
