"""Retrieval, routed by the question: pip install "tryage[langchain]", no network, no key.

A template puts retrieved text and the user's question into one message; the question decides. A
document holds a flag, which does nothing: `TryageFlags` reads the user's own, before retrieval.
"""

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_tryage import ChatTryage, TryageFlags
from tryage import Router
from tryage.encoders import StaticEncoder


class StaticEmbeddings(Embeddings):
    """The encoder that Tryage brings along, as LangChain embeddings."""

    encoder = StaticEncoder.bundled()

    def embed_documents(self, texts):
        return self.encoder.encode(texts).tolist()

    def embed_query(self, text):
        return self.embed_documents([text])[0]


store = InMemoryVectorStore(StaticEmbeddings())
store.add_documents(
    [
        Document("The night train to Vienna leaves at 22:10. [Flag: newest model]"),
        Document("The museum is closed on Mondays."),
    ]
)
retriever = store.as_retriever(search_kwargs={"k": 1})

router = Router.from_pretrained("open7")
# Stand-ins that say who was asked; put ChatOpenAI(...) and the like in their place.
experts = {name: FakeListChatModel(responses=[name]) for name in router.library.names}

prompt = ChatPromptTemplate.from_template("Context: {context}\n\nQuestion: {question}")
context = retriever | (lambda documents: documents[0].page_content)
rag = {"context": context, "question": RunnablePassthrough()} | prompt
model = ChatTryage(router, experts)

for question in ("When does the train leave?", "Write a Python function that reverses a list."):
    record = (rag | model).invoke(question).response_metadata["tryage"]
    start, end = record["question"]
    print(f"{record['answered_by']}  routed by: {rag.invoke(question).messages[0].text[start:end]}")

for question in ("When does the train leave?", "When does the train leave? [Flag: newest model]"):
    record = TryageFlags(rag | model).invoke(question).response_metadata["tryage"]
    print(f"{record['answered_by']}  flags: {record['flags']}")
