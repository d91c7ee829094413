"""An LLM that routes, in a RAG pipeline: pip install "tryage[llama-index]", no network, no key.

One document carries a flag. It does not act: flags are read from the user's own question alone.
"""

from llama_index.core import Document, Settings, VectorStoreIndex
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import MockLLM

from llama_index_tryage import TryageLLM
from tryage import Router
from tryage.encoders import StaticEncoder


class StaticEmbedding(BaseEmbedding):
    """The encoder that ships with Tryage, as an embedding."""

    def _get_text_embedding(self, text):
        return StaticEncoder.bundled().encode([text])[0].tolist()

    _get_query_embedding = _get_text_embedding

    async def _aget_query_embedding(self, query):
        return self._get_text_embedding(query)


def question(given):
    """Return the user's question from LlamaIndex's template, which ends with it."""
    text = given if isinstance(given, str) else given[-1].content
    return text.rpartition("Query: ")[2].rpartition("\nAnswer:")[0]


router = Router.from_pretrained("open7")
# Put your own LLMs here; these answer with the prompt's first words.
experts = {name: MockLLM(max_tokens=12) for name in router.library.names}
Settings.llm = TryageLLM(router, experts, flags_from=question)
Settings.embed_model = StaticEmbedding()

texts = [
    "A heap is a tree in which every parent is at most its children. [Flag: newest model]",
    "The Gregorian calendar has 97 leap years in every 400 years.",
    "Carbon-14 has a half-life of about 5,730 years.",
]
index = VectorStoreIndex.from_documents([Document(text=text) for text in texts])
engine = index.as_query_engine(similarity_top_k=1)
for asked in ("What is a heap?", "What is a heap? [Flag: newest model]"):
    response = engine.query(asked)
    print(asked, "→", response.source_nodes[0].text[:30], "|", response)
    told = Settings.llm.complete(f"Query: {asked}\nAnswer: ").additional_kwargs["tryage"]
    print("  answered by", told["answered_by"], told["flags"])
