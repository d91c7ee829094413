"""Tryage in LangChain: a runnable and a chat model that send each prompt to the best expert."""

from langchain_tryage.chat_models import ChatTryage
from langchain_tryage.runnable import TryageRouter

__all__ = ["ChatTryage", "TryageRouter"]
