"""Run experts over prompts and measure them: likelihoods in bits per byte, or scored answers.

`label` runs the library's own models; `label_answers` any callables, wherever they run.
"""

from tryage.labeling.answers import Scorer, alabel_answers, label_answers, wrapped
from tryage.labeling.calling import Calling
from tryage.labeling.engine import label
from tryage.labeling.judges import PairwiseJudge, PointwiseJudge
from tryage.labeling.losses import measure
from tryage.labeling.metrics import METRICS, Metric
from tryage.labeling.record import Cell, Measurement
from tryage.labeling.store import LabelStore
from tryage.labeling.summary import LabelSummary
from tryage.labeling.verdicts import Verdict
from tryage.labeling.words import MaskedText, mask_words

__all__ = [
    "METRICS",
    "Calling",
    "Cell",
    "LabelStore",
    "LabelSummary",
    "MaskedText",
    "Measurement",
    "Metric",
    "PairwiseJudge",
    "PointwiseJudge",
    "Scorer",
    "Verdict",
    "alabel_answers",
    "label",
    "label_answers",
    "mask_words",
    "measure",
    "wrapped",
]
