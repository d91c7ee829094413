"""Tryage in LlamaIndex: an LLM and a selector that send each prompt to the best expert."""

from llama_index_tryage.llm import TryageLLM
from llama_index_tryage.selector import TryageSelector

__all__ = ["TryageLLM", "TryageSelector"]
