"""Tryage in LlamaIndex: an LLM and a selector that send each prompt to the best expert."""

from tryage.errors import missing_extra

try:
    from llama_index_tryage._metadata import last_decision
    from llama_index_tryage.events import TryageDecisionEvent
    from llama_index_tryage.feedback import TryageFeedback
    from llama_index_tryage.flags import TryageFlags
    from llama_index_tryage.function_calling import TryageFunctionCallingLLM
    from llama_index_tryage.labeling import alabel, label
    from llama_index_tryage.llm import TryageLLM
    from llama_index_tryage.selector import TryageMultiSelector, TryageSelector
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "llama_index":
        raise
    raise missing_extra("llama-index", "llama_index_tryage") from error

__all__ = [
    "TryageDecisionEvent",
    "TryageFeedback",
    "TryageFlags",
    "TryageFunctionCallingLLM",
    "TryageLLM",
    "TryageMultiSelector",
    "TryageSelector",
    "alabel",
    "label",
    "last_decision",
]
