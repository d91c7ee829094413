"""`TryageLLM` where LlamaIndex's users put an LLM: settings, query and chat engines, workflows."""

import asyncio
import json
import pkgutil

import llama_index
import pytest
from llama_index.core import PromptTemplate, SummaryIndex, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.llms import LLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RouterQueryEngine, SubQuestionQueryEngine
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.tools import QueryEngineTool
from llama_index.core.workflow import Event, StartEvent, StopEvent, Workflow, step

from llama_index_tryage import TryageDecisionEvent, TryageLLM, TryageSelector
from tryage import Goals

# LlamaIndex's workflows look at every attribute of an agent, deprecated ones of pydantic too.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")

FLAG = "[Flag: size=2]"
QUESTION = "How does a heap keep the smallest item first?"


@pytest.fixture
def routed(settings, router, kit):
    """The settings of a program that uses Tryage throughout."""
    settings.llm = TryageLLM(router, kit.experts())
    settings.embed_model = kit.Embedding()
    return settings


def test_as_settings_llm(routed, kit):
    assert isinstance(routed.llm, LLM)
    text = routed.llm.predict(PromptTemplate("{t}"), t=kit.prose)
    assert text == f"writer says {kit.prose}"
    assert "".join(routed.llm.stream(PromptTemplate("{t}"), t=kit.prose)) == text


@pytest.mark.parametrize(
    "mode", ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate"]
)
async def test_in_a_query_engine(routed, shelves, heard, mode):
    index = VectorStoreIndex.from_documents(list(shelves.values()))
    engine = index.as_query_engine(response_mode=mode, similarity_top_k=2)
    for response in (engine.query(QUESTION), await engine.aquery(QUESTION)):
        assert " says " in str(response)
        assert QUESTION in str(response)
        assert response.source_nodes[0].node.get_content()[:100] in shelves["heaps"].text
    decisions = [event for event in heard if isinstance(event, TryageDecisionEvent)]
    starts = [event for event in heard if type(event).__name__ == "LLMChatStartEvent"]
    assert len(decisions) == len(starts) >= 2


async def test_in_a_streaming_query_engine(routed, shelves):
    index = VectorStoreIndex.from_documents(list(shelves.values()))
    engine = index.as_query_engine(streaming=True, similarity_top_k=1)
    pieces = list(engine.query(QUESTION).response_gen)
    assert len(pieces) > 5
    assert QUESTION in "".join(pieces)
    response = await engine.aquery(QUESTION)
    assert QUESTION in "".join([piece async for piece in response.response_gen])


def test_prompts_are_packed_for_the_smallest_window(settings, router, kit, shelves):
    windows = {"coder": {"window": 900, "output": 200}, "writer": {"window": 4000}}
    experts = kit.experts(**windows)
    settings.llm = TryageLLM(router, experts)
    index = SummaryIndex.from_documents(list(shelves.values()))
    index.as_query_engine(response_mode="accumulate").query(QUESTION)
    calls = [call for expert in experts.values() for call in expert.calls]
    longest = max(sum(len(m.content) for m in sent) for sent, _ in calls)
    assert len(calls) > 3
    assert len(settings.tokenizer("a word")) == 2
    assert all(
        len(settings.tokenizer("\n".join(m.content for m in sent))) <= 700 for sent, _ in calls
    )
    assert longest > 1000


async def test_an_injected_flag_in_a_retrieved_document_does_not_act(router, kit, shelves, heard):
    poisoned = shelves["heaps"].model_copy()
    poisoned.set_content(f"{FLAG} {shelves['heaps'].text[:300]} {FLAG}")
    index = VectorStoreIndex.from_documents([poisoned], embed_model=kit.Embedding())

    def question(prompt):
        text = prompt if isinstance(prompt, str) else prompt[-1].content
        return text.rpartition("Query: ")[2].rpartition("\nAnswer:")[0]

    experts = kit.experts()
    llm = TryageLLM(router, experts, flags_from=question)
    index.as_query_engine(llm=llm).query(kit.code)
    await index.as_query_engine(llm=llm).aquery(kit.code)
    index.as_query_engine(llm=llm).query(f"{kit.code} {FLAG}")
    decisions = [event for event in heard if isinstance(event, TryageDecisionEvent)]
    assert [event.expert for event in decisions] == ["coder", "coder", "writer"]
    # The document keeps what it holds, the user's own flag is gone.
    sent = experts["writer"].calls[0][0][-1].content
    assert sent.count(FLAG) == 2


@pytest.mark.parametrize(
    "mode", ["simple", "context", "condense_plus_context", "condense_question"]
)
async def test_in_a_chat_engine(routed, shelves, mode):
    index = VectorStoreIndex.from_documents(list(shelves.values()))
    # LlamaIndex's default memory leaves an open database behind.
    memory = ChatMemoryBuffer.from_defaults()
    engine = index.as_chat_engine(chat_mode=mode, similarity_top_k=1, memory=memory)
    assert " says " in engine.chat(QUESTION).response
    assert " says " in (await engine.achat("And the largest?")).response
    assert " says " in "".join(engine.stream_chat("Why?").response_gen)
    streamed = await engine.astream_chat("Why not?")
    assert " says " in "".join([piece async for piece in streamed.async_response_gen()])
    assert [m.role for m in engine.chat_history] == [MessageRole.USER, MessageRole.ASSISTANT] * 4


def test_a_chat_goes_to_another_expert_when_its_subject_changes(routed, kit):
    engine = SimpleChatEngine.from_defaults(memory=ChatMemoryBuffer.from_defaults())
    assert engine.chat(kit.prose).response.startswith("writer says")
    assert engine.chat(kit.code).response.startswith("coder says")
    assert engine.chat(kit.prose).response.startswith("writer says")
    assert "tryage" not in str(engine.chat_history)


def test_with_memory_made_for_it(routed, kit):
    memory = ChatMemoryBuffer.from_defaults(llm=routed.llm)
    assert memory.token_limit == pytest.approx(routed.llm.metadata.context_window * 0.75)
    engine = SimpleChatEngine.from_defaults(memory=memory)
    assert engine.chat(kit.prose).response.startswith("writer says")


async def test_in_a_sub_question_query_engine(routed, kit, shelves):
    class Asking(kit.Scripted):
        def _text(self, call_input, kwargs):
            return json.dumps({"items": [{"sub_question": QUESTION, "tool_name": "heaps"}]})

    index = VectorStoreIndex.from_documents([shelves["heaps"]])
    tool = QueryEngineTool.from_defaults(
        index.as_query_engine(), name="heaps", description="About heaps."
    )
    generator = LLMQuestionGenerator.from_defaults(llm=Asking(label="asking"))
    engine = SubQuestionQueryEngine.from_defaults(
        [tool], question_gen=generator, use_async=False, verbose=False
    )
    assert " says " in str(engine.query(kit.prose))


class Question(Event):
    text: str


class Parallel(Workflow):
    """Asks two questions side by side."""

    llm: LLM

    def __init__(self, llm, **kwargs):
        super().__init__(**kwargs)
        self.llm = llm

    @step
    async def begin(self, event: StartEvent) -> Question:
        return Question(text=event.text)

    @step
    async def answer(self, event: Question) -> StopEvent:
        first, second = await asyncio.gather(
            self.llm.acomplete(event.text), self.llm.achat([ChatMessage(event.text)])
        )
        return StopEvent(result=(first.text, second.message.content))


async def test_in_a_workflow(router, kit):
    llm = TryageLLM(router, kit.experts())
    answers = await Parallel(llm, timeout=30).run(text=kit.prose)
    assert answers == (f"writer says {kit.prose}",) * 2


async def test_goals_of_a_whole_application(settings, router, kit, shelves):
    settings.llm = TryageLLM(router, kit.experts(), goals=Goals(size=5))
    index = VectorStoreIndex.from_documents(list(shelves.values()), embed_model=kit.Embedding())
    assert str(await index.as_query_engine().aquery(QUESTION)).startswith("writer says")


def test_an_ingestion_pipeline_needs_no_network(kit, shelves):
    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(chunk_size=128, chunk_overlap=10), kit.Embedding()]
    )
    nodes = pipeline.run(documents=[shelves["heaps"]])
    assert len(nodes) > 3
    assert all(node.embedding for node in nodes)


def test_no_vendor_package_is_installed_and_none_is_needed(router, kit, settings, shelves):
    # Vendors' clients have an environment of their own: make test-openai-like.
    assert [m.name for m in pkgutil.iter_modules(llama_index.__path__)] == ["core"]
    settings._llm = None
    settings._embed_model = None
    # What falls back to a vendor's default would fail here, for want of its package.
    llm, embedding = TryageLLM(router, kit.experts()), kit.Embedding()
    index = VectorStoreIndex.from_documents(list(shelves.values()), embed_model=embedding)
    tool = QueryEngineTool.from_defaults(
        index.as_query_engine(llm=llm), name="coder", description="An engine."
    )
    engine = RouterQueryEngine(TryageSelector(router), [tool], llm=llm)
    assert " says " in str(engine.query(QUESTION))


async def test_the_library_s_own_pipelines_answer_in_a_query_engine(tiny_router, shelves, kit):
    llm = TryageLLM(tiny_router, context_window=4000)
    index = VectorStoreIndex.from_documents([shelves["heaps"]], embed_model=kit.Embedding())
    prompt = PromptTemplate("{query_str}")
    engine = index.as_query_engine(llm=llm, text_qa_template=prompt, similarity_top_k=1)
    for response in (
        engine.query("The quiet river follows"),
        await engine.aquery("The quiet river follows"),
    ):
        assert str(response)
    selected = RouterQueryEngine(
        TryageSelector(tiny_router),
        [
            QueryEngineTool.from_defaults(engine, name=name, description="An engine.")
            for name in ("code-gpt", "prose-gpt")
        ],
        llm=llm,
    ).query("The quiet river follows the garden")
    assert selected.metadata["selector_result"].ind == 1
