"""Route a LangChain chain: pip install "tryage[langchain]", no network, no key.

The experts here are plain functions, so that this runs anywhere; put your own models in their
place: any runnable, such as ChatOpenAI(...) or a whole chain.
"""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from langchain_tryage import TryageRouter
from tryage import Goals, Router

router = Router.from_pretrained("open7")


def expert(name):
    """A stand-in that says who was asked, and what."""
    return RunnableLambda(lambda prompt: f"({name}) got: {prompt.to_messages()[-1].text}")


experts = {name: expert(name) for name in router.library.names}
prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])

# The last human message is the user's own text here, so flags in it may act.
chain = prompt | TryageRouter(router, experts, flags_from="last_message") | StrOutputParser()

questions = [
    "Write a Python function that reverses a linked list.",
    "A train covers 210 km at 84 km/h. How long does it take?",
    "A train covers 210 km at 84 km/h. How long does it take? [Flag: smallest model]",
]
for question in questions:
    print(chain.invoke({"question": question}))

# Decide for many at once; ask for the decision beside the output.
with_decisions = prompt | TryageRouter(router, experts, goals=Goals(size=0.5), with_decision=True)
for result in with_decisions.batch([{"question": question} for question in questions[:2]]):
    decision = result["decision"]
    print(f"{decision.answered_by}: predicted loss {decision.predicted_loss:.2f}")
