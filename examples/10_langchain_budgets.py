"""Keep a chain within budgets: pip install "tryage[langchain]", no network, no key.

Weights are hard to guess, budgets are what one is given. `calibrate` finds the weights on past
prompts; they are goals like any other, which a chain takes.
"""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from langchain_tryage import TryageRouter
from tryage import Router

router = Router.from_pretrained("open7")
past = [
    "A train covers 210 km at 84 km/h. How long does it take?",
    "Write a Python function that reverses a linked list.",
    "Why do leaves turn red in autumn?",
    "What is 17 * 3?",
    "Translate 'good morning' into Chinese.",
    "Prove that there are infinitely many primes.",
]
budgets = ("mean size <= 7.3B", "share(meta-math/MetaMath-Mistral-7B) <= 40%")

goals = router.calibrate(past, *budgets)
for budget, figures in goals.attained.items():
    print(f"{budget}: {figures['value']:.4g}, {'met' if figures['met'] else 'not met'}")


def expert(name):
    """A stand-in that says who was asked; put your own models in its place."""
    return RunnableLambda(lambda prompt: name)


experts = {name: expert(name) for name in router.library.names}
prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
inputs = [{"question": question} for question in past]

for name, call_goals in (("without budgets", None), ("within them", goals)):
    chain = prompt | TryageRouter(router, experts, goals=call_goals) | StrOutputParser()
    answers = chain.batch(inputs)
    size = sum(router.library[answer].parameters for answer in answers) / len(answers)
    most = max(answers, key=answers.count)
    print(f"{name}: {size / 1e9:.2f}B on average, {answers.count(most)} of 6 to {most}")

# A budget that nothing can meet says so, with the nearest that can be had.
print(router.calibrate(past, "mean size <= 1B").met)
