"""Tryage in LangChain: runnables and models that send each prompt to the best expert."""

from typing import TYPE_CHECKING, Any

from tryage.errors import missing_extra

try:
    from langchain_tryage.chat_models import ChatTryage
    from langchain_tryage.feedback import TryageFeedback
    from langchain_tryage.flags import TryageFlags
    from langchain_tryage.labeling import alabel, label
    from langchain_tryage.llms import TryageLLM
    from langchain_tryage.runnable import TryageRouter
    from langchain_tryage.selector import TryageSelector
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "langchain_core":
        raise
    raise missing_extra("langchain", "langchain_tryage") from error

if TYPE_CHECKING:
    from langchain_tryage.middleware import TryageMiddleware

__all__ = [
    "ChatTryage",
    "TryageFeedback",
    "TryageFlags",
    "TryageLLM",
    "TryageMiddleware",
    "TryageRouter",
    "TryageSelector",
    "alabel",
    "label",
]


def __getattr__(name: str) -> Any:
    """Import the agent middleware at first use: it alone needs `langchain` itself."""
    if name != "TryageMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from langchain_tryage.middleware import TryageMiddleware
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("langchain", "langgraph"):
            raise
        raise missing_extra("langchain", "TryageMiddleware") from error
    return TryageMiddleware
