"""Experts at run time: local Hugging Face models and endpoints, loaded and called on first use."""

from tryage.runtime.analysis import (
    FeatureExtractionPipeline,
    TextClassificationPipeline,
    TokenClassificationPipeline,
    ZeroShotClassificationPipeline,
)
from tryage.runtime.answer import Answer
from tryage.runtime.batching import Batching
from tryage.runtime.endpoint_http import EndpointOptions
from tryage.runtime.endpoint_streams import AsyncEndpointStream, EndpointStream
from tryage.runtime.endpoints import EndpointPipeline
from tryage.runtime.fill_mask import FillMaskPipeline
from tryage.runtime.generation import (
    EncoderDecoderPipeline,
    GenerationPipeline,
    TextGenerationPipeline,
)
from tryage.runtime.health import ExpertHealth
from tryage.runtime.runtime import AnyPipeline, Runtime
from tryage.runtime.streams import AsyncTextStream, TextStream

__all__ = [
    "Answer",
    "AnyPipeline",
    "AsyncEndpointStream",
    "AsyncTextStream",
    "Batching",
    "EncoderDecoderPipeline",
    "EndpointOptions",
    "EndpointPipeline",
    "EndpointStream",
    "ExpertHealth",
    "FeatureExtractionPipeline",
    "FillMaskPipeline",
    "GenerationPipeline",
    "Runtime",
    "TextClassificationPipeline",
    "TextGenerationPipeline",
    "TextStream",
    "TokenClassificationPipeline",
    "ZeroShotClassificationPipeline",
]
