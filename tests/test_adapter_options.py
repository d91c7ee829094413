"""Constructor options of both adapters: a wrong one is refused in words that say what it may be."""

import math
import re

import pytest
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.runnables import RunnableLambda
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import CustomQueryEngine

import langchain_tryage
import llama_index_tryage
from langchain_tryage.middleware import TryageMiddleware
from langchain_tryage.pipelines import ChatTryagePipeline
from langchain_tryage.pipelines import TryagePipeline as LangChainPipeline
from llama_index_tryage.pipelines import TryagePipeline as LlamaIndexPipeline
from tryage.errors import LibraryError

NAN, INF = math.nan, math.inf
TRUTH = "it is True or False"
SECONDS = "it is above 0 seconds, or None for no limit"
COUNT = "it is a number of {}, at least 1"

DECIDING = {
    "flags_from": ([5, True], "it is 'last_message', a function"),
    "goals": ([{"size": 1}], "it is a Goals, or None"),
    "policy": (["strict"], "it is a Policy, or None"),
    "aliases": (["x", 5], "it is a mapping of names"),
    "task": ([5], "it is a Transformers task, or None"),
}
CALLING = DECIDING | {
    "timeout": (["5", NAN, INF, -1, 0, True], SECONDS),
    "total_timeout": (["5", NAN, INF, -1, 0, True], SECONDS),
    "max_attempts": (["2", 1.5, NAN, True, 0], "a whole number, at least 1, or None"),
    "breaker": (["yes", 1], "it is True, False, a Breaker, or None"),
    "errors": ([5, "x", [3]], "it is a tuple of exception classes"),
    "on_rejected": (["x", None], "it is 'return' or 'raise'"),
    "stream_unchecked": (["yes", 1, None], TRUTH),
    "keep_verdicts": (["yes", 2, None], TRUTH),
}
MODEL = {
    "temperature": (["0", NAN, INF, -1, True], "a finite number, at least 0, or None"),
    "max_tokens": (["9", 1.5, NAN, 0, -5, True], COUNT.format("tokens")),
    "stop": ([5, [5], "", [""]], "it is a text, or a list of texts, or None"),
}
KEY = {"key": ([5, "", True], "it is a key of the input")}
PIPELINE = MODEL | {
    "temperature": (["0", NAN, -1, True], "a finite number, at least 0"),
    "max_new_tokens": (["9", 1.5, 0, True, None], COUNT.format("tokens")),
    "seed": ([1.5, "1"], "it is a whole number, or None"),
    "logprobs": (["yes", 1, None], TRUTH),
    "expert": ([5, None], "it is the name of an expert"),
}
STICKY = "True, False, 'price', or the most that it may cost: a finite number, at least 0"
PARSER = "it is a BaseOutputParser, or None"
LLAMA_INDEX = CALLING | {
    "context_window": (["9", 1.5, NAN, 0, -5, True], COUNT.format("tokens")),
    "text_from": ([5, "last_message"], "it is a function, or None"),
    "callback_manager": ([5], "it is a CallbackManager"),
    "output_parser": ([5], PARSER),
    "rate_limiter": ([5], "it is a rate limiter with acquire and async_acquire"),
}
TEXT_FROM = {"text_from": (["x", 0, -1, 1.5, NAN, True], "it is 'last_message', 'system_and_last'")}
STAYING = {"sticky": (["yes", NAN, INF, -1, None], STICKY)}
TOOLS = {
    "top_k": (["2", 1.5, NAN, 0, True], COUNT.format("tools")),
    "margin": (["1", NAN, INF, -1, True], "it is a finite number, at least 0"),
    "fallback": (["x", True], "it is 'description', or None"),
}


def of(expert):
    """Experts for every name of the router."""
    return lambda router: {name: expert() for name in router.library.names}


def chat():
    return FakeListChatModel(responses=["yes"])


def text():
    return FakeListLLM(responses=["yes"])


class Engine(CustomQueryEngine):
    """Answers with the query."""

    def custom_query(self, query_str):
        return query_str


CLASSES = {
    "ChatTryage": (
        lambda router, **options: langchain_tryage.ChatTryage(router, of(chat)(router), **options),
        CALLING | MODEL | TEXT_FROM | STAYING | {"streaming": (["yes", 1], TRUTH)},
    ),
    "TryageLLM": (
        lambda router, **options: langchain_tryage.TryageLLM(router, of(text)(router), **options),
        CALLING | MODEL | TEXT_FROM,
    ),
    "TryageRouter": (
        lambda router, **options: langchain_tryage.TryageRouter(
            router, of(chat)(router), **options
        ),
        CALLING | TEXT_FROM | KEY | {"with_decision": (["yes", 1, None], TRUTH)},
    ),
    "TryageMiddleware": (
        lambda router, **options: TryageMiddleware(router, of(chat)(router), **options),
        CALLING | TEXT_FROM | STAYING | {"choose": (["always", None], "it is 'run' or 'call'")},
    ),
    "TryageSelector": (
        langchain_tryage.TryageSelector,
        DECIDING | TEXT_FROM | KEY | {"output": (["x", None], "it is 'decision' or 'name'")},
    ),
    "LlamaIndex LLM": (
        lambda router, **options: llama_index_tryage.TryageLLM(
            router, of(MockLLM)(router), **options
        ),
        LLAMA_INDEX | STAYING,
    ),
    "LlamaIndex function calling": (
        lambda router, **options: llama_index_tryage.TryageFunctionCallingLLM(
            router, of(MockLLM)(router), **options
        ),
        LLAMA_INDEX | STAYING,
    ),
    "LlamaIndex selector": (llama_index_tryage.TryageSelector, DECIDING),
    "LlamaIndex multi selector": (llama_index_tryage.TryageMultiSelector, DECIDING | TOOLS),
    "chat pipeline": (lambda _router, **options: pipeline(ChatTryagePipeline, options), PIPELINE),
    "text pipeline": (lambda _router, **options: pipeline(LangChainPipeline, options), PIPELINE),
    "LlamaIndex pipeline": (
        lambda _router, **options: pipeline(LlamaIndexPipeline, options),
        PIPELINE,
    ),
}


def pipeline(kind, options):
    """A local model; nothing is loaded."""
    return kind(**{"runtime": None, "expert": "x"} | options)


@pytest.mark.parametrize("name", CLASSES)
def test_an_option_that_cannot_work_is_refused_with_its_value_and_what_it_may_be(open7, name):
    make, rules = CLASSES[name]
    accepted, mute = [], []
    for option, (values, words) in rules.items():
        for value in values:
            try:
                make(open7, **{option: value})
            except (TypeError, ValueError) as error:
                if option not in str(error) or words not in str(error):
                    mute.append((option, value, str(error)))
            else:
                accepted.append((option, value))
    assert (accepted, mute) == ([], [])


@pytest.mark.parametrize("sticky", [True, False, "price", 0, 0.0, 0.1, 2])
def test_sticky_is_a_truth_value_or_a_cost(open7, sticky):
    model = langchain_tryage.ChatTryage(open7, of(chat)(open7), sticky=sticky)
    assert model.sticky == sticky


def test_a_task_of_no_expert_and_aliases_of_none_are_refused(open7):
    for make, _ in list(CLASSES.values())[:6]:
        with pytest.raises(LibraryError, match=r"task is 'text-generatoin'; .*'text-generation'"):
            make(open7, task="text-generatoin")
        with pytest.raises(TypeError, match=re.escape("aliases map 'a' to 5; both are names")):
            make(open7, aliases={"a": 5})
    with pytest.raises(LibraryError, match="nobody"):
        langchain_tryage.TryageSelector(open7, aliases={"a": "nobody"})


def test_flags_take_a_key_that_can_be_one(open7):
    for make in (
        lambda key: langchain_tryage.TryageFlags(RunnableLambda(str), key=key),
        lambda key: llama_index_tryage.TryageFlags(Engine(), key=key),
    ):
        for key in (5, "", True):
            with pytest.raises(ValueError, match=re.escape(f"key is {key!r}; it is a key")):
                make(key)


def test_feedback_takes_a_function_and_a_number(open7, tmp_path):
    router = open7.with_feedback(tmp_path / "feedback.jsonl", store_prompts=True)
    words = "metric is 'exact'; it is a function of a prompt and an answer"
    for make in (langchain_tryage.TryageFeedback, llama_index_tryage.TryageFeedback):
        with pytest.raises(ValueError, match=words):
            make(router, "exact")
    for keep in (0, -1, 1.5, True, "9"):
        with pytest.raises(ValueError, match=re.escape(f"keep is {keep!r}; it is a number of")):
            langchain_tryage.TryageFeedback(router, keep=keep)


def test_an_option_of_one_call_is_refused_there_and_no_expert_is_blamed(open7):
    from langchain_core.runnables import ConfigurableField

    inner = langchain_tryage.ChatTryage(open7, of(chat)(open7))
    model = inner.configurable_fields(sticky=ConfigurableField("sticky"))
    assert model.invoke("What is 2+2?").text == "yes"
    with pytest.raises(ValueError, match="sticky is -1; it is True, False, 'price', or the most"):
        model.invoke("What is 2+2?", config={"configurable": {"sticky": -1}})
