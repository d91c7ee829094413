"""Run experts over prompts and measure them: likelihoods in bits per byte, or scored answers."""

from tryage.labeling.engine import label
from tryage.labeling.losses import measure
from tryage.labeling.metrics import METRICS, Metric
from tryage.labeling.record import Cell, Measurement
from tryage.labeling.store import LabelStore
from tryage.labeling.summary import LabelSummary
from tryage.labeling.words import MaskedText, mask_words

__all__ = [
    "METRICS",
    "Cell",
    "LabelStore",
    "LabelSummary",
    "MaskedText",
    "Measurement",
    "Metric",
    "label",
    "mask_words",
    "measure",
]
