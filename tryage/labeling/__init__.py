"""Run experts over prompts and measure their losses in bits per byte."""

from tryage.labeling.engine import LabelSummary, label
from tryage.labeling.losses import measure
from tryage.labeling.record import Cell, Measurement
from tryage.labeling.store import LabelStore
from tryage.labeling.words import MaskedText, mask_words

__all__ = [
    "Cell",
    "LabelStore",
    "LabelSummary",
    "MaskedText",
    "Measurement",
    "label",
    "mask_words",
    "measure",
]
