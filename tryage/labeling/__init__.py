"""Run experts over prompts and measure them: likelihoods in bits per byte, or scored answers.

`label` runs the library's own models; `label_answers` calls any functions. Both are one run:

- `api` checks the arguments; `rows` and `masking` read the prompts.
- `run` finds the cells that the folder lacks, asks an engine, stores, counts and reports.
- Engines: `local_engine` and `ray_engine` run models; `call_engine` and `calling` ask callables.
- Measurements: `likelihood` on `tokens` and `window_losses`; `answers` on `metrics`, or on `judges`
  and their `verdicts`.
- `store` keeps `cells`; `fingerprints` tell whether models or metrics changed since.
"""

from tryage.labeling.api import Scorer, alabel_answers, label, label_answers, wrapped
from tryage.labeling.calling import Calling
from tryage.labeling.cells import Cell, Measurement
from tryage.labeling.judges import PairwiseJudge, PointwiseJudge
from tryage.labeling.likelihood import measure
from tryage.labeling.masking import MaskedText, mask_words
from tryage.labeling.metrics import METRICS, Metric
from tryage.labeling.run import LabelSummary
from tryage.labeling.store import LabelStore
from tryage.labeling.verdicts import Verdict

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
