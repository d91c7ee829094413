"""Tryage in LangChain: runnables and models that send each prompt to the best expert."""

from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tryage.errors import MissingExtraError, missing_extra

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
    from langchain_tryage._decision_model import TryageDecisionModel
    from langchain_tryage.middleware import TryageMiddleware

__all__ = [
    "ChatTryage",
    "TryageDecisionModel",
    "TryageFeedback",
    "TryageFlags",
    "TryageLLM",
    "TryageMiddleware",
    "TryageRouter",
    "TryageSelector",
    "alabel",
    "label",
]


if find_spec("langchain_core.decisions") is None:
    __all__.remove("TryageDecisionModel")


def __getattr__(name: str) -> Any:
    """Import at first use what needs `langchain` itself, or the newest langchain-core."""
    if name == "TryageMiddleware":
        return _load_middleware()
    if name == "TryageDecisionModel":
        return _load_decision_model()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _load_middleware() -> Any:
    try:
        from langchain_tryage.middleware import TryageMiddleware
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("langchain", "langgraph"):
            raise
        raise missing_extra("langchain", "TryageMiddleware") from error
    return TryageMiddleware


def _load_decision_model() -> Any:
    try:
        from langchain_tryage._decision_model import TryageDecisionModel
    except ModuleNotFoundError as error:
        if error.name != "langchain_core.decisions":
            raise
        raise MissingExtraError(
            f"TryageDecisionModel needs langchain-core 1.8 or newer, found "
            f"{version('langchain-core')}; install it with: pip install -U langchain-core"
        ) from error
    return TryageDecisionModel
