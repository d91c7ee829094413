"""Retrieval, routed by the question: pip install "tryage[llama-index]", no network, no key.

One document carries a flag. It does not act: `TryageFlags` reads the user's own, before retrieval.
"""

from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import MockLLM

from llama_index_tryage import TryageFlags, TryageLLM, last_decision
from tryage import Router
from tryage.encoders import StaticEncoder


class StaticEmbedding(BaseEmbedding):
    """The encoder that ships with Tryage, as an embedding."""

    def _get_text_embedding(self, text):
        return StaticEncoder.bundled().encode([text])[0].tolist()

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query):
        return self._get_text_embedding(query)


router = Router.from_pretrained("open7")
# Put your own LLMs here; these answer with the prompt's first words.
experts = {name: MockLLM(max_tokens=12) for name in router.library.names}
Settings.llm = TryageLLM(router, experts)
Settings.embed_model = StaticEmbedding()

texts = [
    "A heap is a tree in which every parent is at most its children. [Flag: newest model]",
    "The Gregorian calendar has 97 leap years in every 400 years.",
    "Carbon-14 has a half-life of about 5,730 years.",
]
index = VectorStoreIndex.from_documents([Document(text=text) for text in texts])
engine = TryageFlags(index.as_query_engine(similarity_top_k=1))
for question in (
    "What is a heap?",
    "What is a heap? [Flag: newest model]",
    "Write a Python function that reverses a linked list.",
):
    response = engine.query(question)
    print(question, "→", response.source_nodes[0].text[:30], "|", response)
    record = last_decision()
    print("  answered by", record["answered_by"], record["flags"])
