"""Tryage in LangChain: a runnable and a chat model that send each prompt to the best expert."""

from tryage.errors import missing_extra

try:
    from langchain_tryage.chat_models import ChatTryage
    from langchain_tryage.flags import TryageFlags
    from langchain_tryage.runnable import TryageRouter
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "langchain_core":
        raise
    raise missing_extra("langchain", "langchain_tryage") from error

__all__ = ["ChatTryage", "TryageFlags", "TryageRouter"]
