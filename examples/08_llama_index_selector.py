"""Select query engines: by expert, and by description. No network, no key, no LLM to choose."""

from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.tools import QueryEngineTool

from llama_index_tryage import TryageMultiSelector, TryageSelector
from tryage import Router


class Engine(CustomQueryEngine):
    """A stand-in for a query engine of yours."""

    name: str

    def custom_query(self, query_str):
        """Answer a query."""
        return f"({self.name}) answers"


def tools(described):
    """Make a tool of each name and description."""
    return [
        QueryEngineTool.from_defaults(Engine(name=name), name=name, description=description)
        for name, description in described.items()
    ]


router = Router.from_pretrained("open7")
llm = MockLLM()  # a RouterQueryEngine wants one to join several answers

# Tools that are named after experts: the router decides as for any prompt.
experts = tools(dict.fromkeys(router.library.names, "An engine over one model."))
engine = RouterQueryEngine(TryageSelector(router), experts, llm=llm)
print(engine.query("If 3 pens cost 4.50, what do 7 pens cost?"))

several = TryageMultiSelector(router, top_k=2, margin=0.1)
result = several.select([tool.metadata for tool in experts], "Why does the moon have phases?")
for selection in result.selections:
    print(selection.index, selection.reason)

# Tools that are not: the router's own encoder compares their descriptions with the query.
subjects = tools(
    {
        "code": "Python code examples and programming questions",
        "money": "Exact decimal numbers, rounding and money",
        "json": "JSON: encoding and decoding of data",
    }
)
engine = RouterQueryEngine(TryageSelector(router), subjects, llm=llm)
response = engine.query("How do I parse a JSON string?")
print(response, "|", response.metadata["selector_result"].reason)
