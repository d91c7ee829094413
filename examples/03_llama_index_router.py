"""Route LlamaIndex's LLM and query engines: pip install "tryage[llama-index]", no network, no key.

The experts here answer without a model, so that this runs anywhere; put your own LLMs in their
place.
"""

from llama_index.core.llms import ChatMessage, CompletionResponse, CustomLLM, LLMMetadata, MockLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.tools import QueryEngineTool

from llama_index_tryage import TryageLLM, TryageSelector
from tryage import Router


class Echo(CustomLLM):
    """A stand-in that says who was asked."""

    name: str

    @property
    def metadata(self):
        """What LlamaIndex wants to know of a model."""
        return LLMMetadata()

    @llm_completion_callback()
    def complete(self, prompt, formatted=False, **kwargs):
        """Answer at once."""
        return CompletionResponse(text=f"({self.name}) {len(prompt.split())} words read")

    @llm_completion_callback()
    def stream_complete(self, prompt, formatted=False, **kwargs):
        """Answer in one piece."""
        yield self.complete(prompt)


class Engine(CustomQueryEngine):
    """A query engine over one expert."""

    name: str

    def custom_query(self, query_str):
        """Answer a query."""
        return f"({self.name}) answers"


router = Router.from_pretrained("open7")
llm = TryageLLM(router, {name: Echo(name=name) for name in router.library.names})
for text in ("Write a Python function that sorts a list.", "Why does the moon have phases?"):
    response = llm.chat([ChatMessage(text)])
    record = response.additional_kwargs["tryage"]
    print(response.message.content, "| predicted loss", round(record["ranking"][0]["loss"], 2))

tools = [
    QueryEngineTool.from_defaults(Engine(name=name), name=name, description="An engine.")
    for name in router.library.names[:3]
]
engine = RouterQueryEngine(TryageSelector(router), tools, llm=MockLLM())
print(engine.query("Write a Python function that sorts a list."))
