"""Retrieval with a flag hidden in a document: pip install "tryage[langchain]", no network, no key.

A template puts retrieved text and the user's question into one message. `flags_from` says which
part of it is the user's own, so the document's flag does nothing, and the user's own acts.
"""

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_tryage import ChatTryage
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


def question(messages):
    """The user's own text, behind the last mark of the template."""
    return messages[-1].text.rpartition("Question: ")[2]


prompt = ChatPromptTemplate.from_template("Context: {context}\n\nQuestion: {question}")
model = ChatTryage(router, experts, flags_from=question)
context = retriever | (lambda found: found[0].page_content)
chain = {"context": context, "question": RunnablePassthrough()} | prompt | model

for asked in ("When does the train leave?", "When does the train leave? [Flag: newest model]"):
    told = chain.invoke(asked).response_metadata["tryage"]
    print(f"{asked}\n  {told['answered_by']}  flags: {told['flags']}")
