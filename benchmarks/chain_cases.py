"""What `benchmarks/chains.py` asks: five kinds of prompt, forty templates, and contexts.

Templates and contexts come in four sets. The rules of `tryage.questions` were developed on the
first. Each other set was written when the rules were thought done, held out and looked at once
(`FIRST_LOOKS`); then the rules were mended for what it showed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import NamedTuple

from tryage import Expert, Library, Router, ScoreTable

FIRST_LOOKS = {
    "second": {"none": 1.006, "neutral": 0.994, "long": 0.843, "questions of its own": 0.790},
    "third": {"none": 1.014, "neutral": 0.966, "long": 1.010, "questions of its own": 0.808},
    "fourth": {"none": 0.872, "neutral": 0.797, "long": 0.772, "questions of its own": 0.638},
}
"""Set → kind of context → right choices as a share of the bare figure, when it was held out."""

RIGHT = {
    "history": "historian",
    "sums": "calculator",
    "code": "coder",
    "kitchen": "cook",
    "translation": "linguist",
}
"""Kind of prompt → the expert that is right on it."""

_EVENTS = (
    "the battle of Lepanto|the fall of Granada|the Congress of Vienna|the peace of Westphalia|"
    "the siege of Malta|the Hanseatic League|the Meiji restoration|the Taiping rebellion|"
    "the council of Trent|the French revolution|the first crusade|the treaty of Utrecht|"
    "the Boer war|the Ottoman conquest of Cairo|the voyage of Magellan|the defenestration of Prague"
).split("|")
_TASKS = (
    "merges two sorted lists|counts the vowels in a string|reverses a linked list|"
    "finds the largest prime below n|parses a date|removes duplicates from a list|"
    "checks whether brackets match|sorts dictionaries by a key|flattens nested lists|"
    "computes a checksum|reads a CSV file into a table|validates an email address|"
    "finds the shortest path in a graph|converts hexadecimal to binary|rotates a matrix|"
    "caches the results of a call"
).split("|")
_DISHES = (
    "onion soup|apple pie|risotto|pancakes|potato salad|lentil stew|fish pie|cheese fondue|"
    "bread rolls|goulash|tomato sauce|carrot cake|dumplings|roast chicken|mushroom omelette|"
    "rice pudding"
).split("|")
_PHRASES = (
    "good morning|where is the station|I have lost my keys|the bill, please|it is raining today|"
    "my brother lives in the north|the shop is closed|see you tomorrow|the water is too cold|"
    "how much is this|we would like a table|I am learning slowly|the train is late|"
    "she reads every evening|he forgot his umbrella|turn left at the bridge"
).split("|")
_LANGUAGES = "German Spanish Polish Swedish Turkish Dutch Finnish Greek".split()

_HISTORY = (
    "When was {}?",
    "Who took part in {}?",
    "What were the causes of {}?",
    "Tell me what came after {}.",
    "In which century was {}, and who ruled then?",
)
_SUMS = (
    "What is {a} times {b}?",
    "Subtract {b} from {a}.",
    "A box holds {a} pens and {b} pencils. How many things are in it?",
    "I drove {a} km on Monday and {b} km on Tuesday. How far did I drive?",
    "Compute {a} / {b} to two decimals.",
)
_CODE = (
    "Write a Python function that {}.",
    "Give me a short program in Java that {}.",
    "How do I write a function that {} in Rust?",
    "Implement a method that {}, with unit tests.",
    "My function that {} raises an exception; how would you write it?",
)
_KITCHEN = (
    "How long do I cook {}?",
    "Which spices go into {}?",
    "Give me a recipe for {}.",
    "Can I make {} without butter and eggs?",
    "What do I serve with {} at dinner?",
)
_TRANSLATION = (
    "Translate '{}' into {}.",
    "How do you say '{}' in {}?",
    "Put the sentence '{}' into polite {}.",
    "What does '{}' become in {}?",
    "Give the {1} for: {0}.",
)


def prompts(seed: int = 0) -> list[tuple[str, str]]:
    """Return (prompt, kind), 400 of them: 80 of each kind, in random order."""
    draw = random.Random(seed)
    rows = []
    for number in range(80):
        way, item = number % 5, number // 5
        numbers = {"a": draw.randint(12, 990), "b": draw.randint(2, 90)}
        language = _LANGUAGES[(item + way) % len(_LANGUAGES)]
        rows += [
            (_HISTORY[way].format(_EVENTS[item]), "history"),
            (_SUMS[way].format(**numbers), "sums"),
            (_CODE[way].format(_TASKS[item]), "code"),
            (_KITCHEN[way].format(_DISHES[item]), "kitchen"),
            (_TRANSLATION[way].format(_PHRASES[item], language), "translation"),
        ]
    draw.shuffle(rows)
    return rows


def fitted(seed: int = 0) -> tuple[Router, list[tuple[str, str]]]:
    """Return a router fitted on 250 bare prompts, and the 150 others with their kinds."""
    rows = prompts(seed)
    table = ScoreTable.from_rows(
        {
            "prompt": prompt,
            "group": kind,
            "scores": {expert: float(expert == RIGHT[kind]) for expert in RIGHT.values()},
        }
        for prompt, kind in rows[:250]
    )
    library = Library([Expert(name=expert, model=expert) for expert in RIGHT.values()])
    return Router.fit(table, library=library, predictor="clusters"), rows[250:]


class Template(NamedTuple):
    """A way to put a context and a question into the user's message.

    Attributes:
        name: for tables.
        text: with {context} and {question}; or a function of both.
        source: "usual", or the package that it is read from.
    """

    name: str
    text: str | Callable[[str, str], str]
    source: str = "usual"

    def fill(self, context: str, question: str) -> str:
        """Return the user's message."""
        if callable(self.text):
            return self.text(context, question)
        return self.text.replace("{context}", context).replace("{question}", question)


def _own(name: str, template: str, context: str = "{context_str}") -> Template:
    """Return a template of LlamaIndex with the names used here."""
    text = template.replace(context, "{context}").replace("{query_str}", "{question}")
    text = text.replace("{existing_answer}", "There is no answer yet.")
    return Template(name, text, "llama-index-core")


def first() -> list[Template]:
    """Return the ten templates that the rules were first developed on."""
    from llama_index.core.prompts import default_prompts

    return [
        _own("LlamaIndex, text QA", default_prompts.DEFAULT_TEXT_QA_PROMPT_TMPL),
        _own("LlamaIndex, refine", default_prompts.DEFAULT_REFINE_PROMPT_TMPL, "{context_msg}"),
        Template(
            "LangChain's rag-prompt",
            "You are an assistant for question-answering tasks. Use the following pieces of "
            "retrieved context to answer the question. If you don't know the answer, just say that "
            "you don't know. Use three sentences maximum and keep the answer concise.\n"
            "Question: {question} \nContext: {context} \nAnswer:",
        ),
        Template(
            "LangChain's retrieval chain",
            "Answer the question based only on the following context:\n{context}\n\n"
            "Question: {question}\n",
        ),
        Template(
            "tags",
            "<context>\n{context}\n</context>\n\n<question>{question}</question>\n"
            "Answer from the context.",
        ),
        Template(
            "headings",
            "## Instructions\nBe brief.\n\n## Context\n{context}\n\n## Question\n{question}\n\n"
            "## Answer\n",
        ),
        Template(
            "turns in one text",
            "Human: Hello\nAI: Hello! How can I help?\nHuman: Read this. {context}\n"
            "AI: Thank you, I have read it.\nHuman: {question}\nAI:",
        ),
        Template(
            "quoted, in one line",
            'Answer from the text. Text: """{context}""" The user asks: "{question}"',
        ),
        Template("German", "Kontext: {context}\n\nFrage: {question}\nAntwort:"),
        Template("one line", "Context: {context} Question: {question} Answer:"),
    ]


def second() -> list[Template]:
    """Return the ten templates that were held out first."""
    from llama_index.core.prompts import chat_prompts

    summarize = str(chat_prompts.TREE_SUMMARIZE_PROMPT_TMPL_MSGS[-1].content)
    refine = str(chat_prompts.CHAT_REFINE_PROMPT_TMPL_MSGS[-1].content)
    return [
        _own("LlamaIndex, tree summarize for chats", summarize),
        _own("LlamaIndex, refine for chats", refine, "{context_msg}"),
        Template(
            "rule, then the question",
            "You are a helpful assistant. Use the following documents to answer.\n\n{context}\n\n"
            "---\n\nAnswer the following: {question}",
        ),
        Template(
            "labels on lines of their own",
            "Given the following information, answer the question.\n\nContext:\n{context}\n\n"
            "Question:\n{question}\n\nAnswer:\n",
        ),
        Template(
            "passages and turns", "Relevant passages:\n{context}\n\nUser: {question}\nAssistant:"
        ),
        Template("JSON", _as_json),
        Template("question first, in one line", "Answer {question} using this text: {context}"),
        Template("French", "Contexte :\n{context}\n\nQuestion : {question}\nRéponse :"),
        Template(
            "numbered sources, question in quotes",
            "[1] {context}\n\nUsing the sources above, reply to the customer's message below. Cite "
            'sources as [n].\n\n"""\n{question}\n"""',
        ),
        Template(
            "instruction and input",
            "### Instruction:\n{question}\n\n### Input:\n{context}\n\n### Response:\n",
        ),
    ]


def third() -> list[Template]:
    """Return the ten templates that were held out next."""
    from llama_index.core.query_engine import citation_query_engine as citing

    cited = citing.CITATION_QA_TEMPLATE.get_template()
    refined = citing.CITATION_REFINE_TEMPLATE.get_template()
    return [
        _own("LlamaIndex, citations", cited),
        _own("LlamaIndex, citations refined", refined, "{context_msg}"),
        Template(
            "context, then the question",
            "Use the following pieces of context to answer the user's question. If you don't know "
            "the answer, just say that you don't know, don't try to make up an answer.\n"
            "----------------\n{context}\n\n{question}",
        ),
        Template(
            "LangChain's stuffed chain",
            "Use the following pieces of context to answer the question at the end. If you don't "
            "know the answer, just say that you don't know, don't try to make up an answer.\n\n"
            "{context}\n\nQuestion: {question}\nHelpful Answer:",
        ),
        Template(
            "LangChain's map step",
            "Use the following portion of a long document to see if any of the text is relevant to "
            "answer the question. Return any relevant text verbatim.\n{context}\n"
            "Question: {question}\nRelevant text, if any:",
        ),
        Template(
            "LangChain's answer with sources",
            "Given the following extracted parts of a long document and a question, create a final "
            'answer with references ("SOURCES").\n\nQUESTION: {question}\n=========\n{context}\n'
            "=========\nFINAL ANSWER:",
        ),
        Template(
            "Haystack's documents",
            "Given these documents, answer the question.\nDocuments:\n{context}\n"
            "Question: {question}\nAnswer:",
        ),
        Template(
            "question, then background",
            "{question}\n\nHere is some background that may help:\n{context}",
        ),
        Template("instruction marks", "[INST] {question}\n\nContext: {context} [/INST]"),
        Template(
            "customer and articles",
            "A customer wrote:\n\n{question}\n\nKnowledge base articles:\n\n{context}\n\n"
            "Draft a reply.",
        ),
    ]


def fourth() -> list[Template]:
    """Return the ten templates that were held out last."""
    return [
        Template(
            "ruler and instruction",
            "Documents:\n{context}\n\n---\nUsing only the documents, answer: {question}",
        ),
        Template(
            "square brackets",
            "You answer questions about our handbook.\n\n[HANDBOOK]\n{context}\n[/HANDBOOK]\n\n"
            "[QUESTION]\n{question}\n[/QUESTION]",
        ),
        Template(
            "search results",
            'Search results for "{question}":\n\n{context}\n\nWrite an answer for the user.',
        ),
        Template(
            "headings without an answer", "### Context\n{context}\n\n### User question\n{question}"
        ),
        Template("Q, sources and A", "Q: {question}\n\nSources:\n{context}\n\nA:"),
        Template(
            "rule with the question",
            "Based on the text below, answer this question: {question}\n\nText:\n{context}",
        ),
        Template("three single quotes", "Context: '''{context}'''\nUser input: '''{question}'''"),
        Template("YAML", "task: answer\nquestion: {question}\ncontext: |\n  {context}"),
        Template("first person", "I found these notes:\n{context}\n\nMy question is: {question}"),
        Template(
            "Chinese",
            "已知信息：\n{context}\n\n根据上述已知信息，回答用户的问题。问题是：{question}",
        ),
    ]


def _as_json(context: str, question: str) -> str:
    return json.dumps({"context": context, "question": question}, ensure_ascii=False)


_HARBOUR = (
    "The harbour was built in 1840 and widened twice. Ferries leave at nine; a ticket costs 12 "
    "euros. Dogs travel free of charge. The office opens on weekdays and closes for lunch."
)
_WARRANTY = (
    "Our warranty covers parts for two years and work for one. Send the device with its receipt to "
    "the address on the box.\n\nRefunds take ten days. Batteries and cables are excluded."
)
_MINUTES = (
    "Minutes of the meeting, 4 March. Present: all but the treasurer.\nThe roof of the club house "
    "will be mended in spring. The fee stays as it is; new members pay half in their first year.\n"
)
_LEASE = (
    "The tenant keeps the staircase clean and tells the owner of damage within a week. Notice is "
    "given three months ahead and in writing. The deposit is paid back after the keys are returned."
)
_FAQ = (
    "Frequently asked.\nQuestion: When was the treaty of Verdun?\nAnswer: In 843.\n"
    "Question: How long do I cook porridge?\nAnswer: Ten minutes.\n"
    "Question: Translate 'thank you' into Danish.\nAnswer: Tak.\n"
    "Question: Write a Python function that adds numbers.\nAnswer: def add(*n): return sum(n)\n"
    "Question: What is 12 times 12?"
)
_SHEET = (
    "Exercises for Friday:\n1. What is 81 times 3?\n2. Who took part in the battle of Hastings?\n"
    "3. How do you say 'the sun is hot' in Czech?\n4. Which spices go into curry?\n"
    "5. Implement a method that doubles a number, with unit tests.\n"
)
_THREAD = (
    "anna wrote: How do I write a function that sorts names in Rust? And which spices go into "
    "chili? ben wrote: no idea, but can you translate 'good night' into Welsh? carl wrote: What is "
    "7 times 19? dora wrote: Tell me what came after the Thirty Years' War."
)
_LETTERS = (
    "Letters to the editor\n\nDear editor, which spices go into mulled wine? Yours, E.\n\n"
    "Dear editor, when was the battle of Marathon? My son asks me every day. Yours, F.\n\n"
    "Q: How do you say 'merry Christmas' in Latvian?\nA: We will ask.\n\n"
    "User: Subtract 19 from 300.\nQuery: Give me a short program in Java that prints a tree.\n\n"
)


_REPAIRS = (
    "The workshop repairs bicycles of every make. A new chain costs 30 euros, a brake 45. Bring "
    "the bicycle before noon and it is ready the next day. There is no service in August."
)
_GARDEN = (
    "Plots are 200 square metres. Hedges stay below head height.\n\nWater is turned off from "
    "November to March. Whoever gives up a plot tells the committee by the end of September."
)
_CHAT = (
    "User: Implement a method that prints a calendar, with unit tests.\nAssistant: Here it is.\n"
    "User: Can I make lasagne without butter and eggs?\nAssistant: You can.\n"
    "User: In which century was the siege of Vienna, and who ruled then?"
)
_HOMEWORK = (
    "# Week 7\n\n## Question 1\nPut the sentence 'the door is open' into polite Japanese.\n\n"
    "## Question 2\nHow long do I cook a hard egg?\n\n## Question 3\nCompute 99 / 7 to two "
    "decimals.\n\n## Question 4\nMy function that finds a word raises an exception; how would you "
    "write it?\n"
)

_LIBRARY = (
    "The library lends books for four weeks and films for one. A card costs 10 euros a year. Late "
    "returns cost 50 cents a day, and nothing for children."
)
_CAMP = (
    "Tents stand on the lower meadow.\n\nFires are lit at the stone circle alone. The gate closes "
    "at ten; the warden lives in the white house beside it."
)
_MAIL = (
    "From: Greta\nSubject: Saturday\n\nHi all, what do I serve with roast beef at dinner? And can "
    "somebody translate 'cheers' into Hungarian?\n\nPS: When was the battle of Zama?\n\n"
    "> Question: I drove 80 km on Monday and 95 km on Tuesday. How far did I drive?\n"
)
_INTERVIEW = (
    "Interviewer: How do I write a function that parses numbers in Rust?\nCandidate: With a loop.\n"
    "Interviewer: Who took part in the siege of Acre?\nCandidate: I do not know.\n"
    "Input: Give me a recipe for plum jam.\nQuery: What is 77 times 6?\n"
)


class Context(NamedTuple):
    """A text that a retriever may have found.

    Attributes:
        kind: one of `KINDS`.
        text: the context.
    """

    kind: str
    text: str


KINDS = ("none", "neutral", "long", "questions of its own")


def contexts(which: str) -> list[Context]:
    """Return contexts of every kind: of the "first", "second", "third" or "fourth" set."""
    empty, neutral, own = {
        "first": ("", (_HARBOUR, _WARRANTY), (_FAQ, _THREAD)),
        "second": ("No documents were found.", (_MINUTES, _LEASE), (_SHEET, _LETTERS)),
        "third": ("(nothing)", (_REPAIRS, _GARDEN), (_CHAT, _HOMEWORK)),
        "fourth": ("None.", (_LIBRARY, _CAMP), (_MAIL, _INTERVIEW)),
    }[which]
    long = " ".join(f"{number}. {text}" for number in range(1, 60) for text in neutral)[:10_000]
    return [
        Context("none", empty),
        *(Context("neutral", text) for text in neutral),
        Context("long", long),
        *(Context("questions of its own", text) for text in own),
    ]
