"""Local Hugging Face models as experts: loaded on first use, run in this process."""

from tryage.runtime.answers import Answer
from tryage.runtime.fill_mask import FillMaskPipeline
from tryage.runtime.generation import TextGenerationPipeline
from tryage.runtime.runtime import Runtime
from tryage.runtime.streams import AsyncTextStream, TextStream

__all__ = [
    "Answer",
    "AsyncTextStream",
    "FillMaskPipeline",
    "Runtime",
    "TextGenerationPipeline",
    "TextStream",
]
