"""Three kinds of question with an expert for each, and a router fitted on bare questions."""

import random

from tryage import Expert, Library, Router, ScoreTable

PLACES = "Aland Borneo Corsica Dalmatia Epirus Flanders Galicia Hesse Istria Jutland".split()
THINGS = "lamp ship wheel candle letter bottle hammer carpet needle ladder".split()
KINDS = {
    "places": ["What is the largest town of {}?", "Name the main river of {}, please."],
    "sums": ["What is {a} times {b}?", "I had {a} coins and found {b} more. How many are there?"],
    "letters": ["Spell the word '{}' backwards.", "Write {} in capital letters."],
}
RIGHT = {"places": "atlas", "sums": "calc", "letters": "speller"}


def questions(seed=5):
    """(question, kind), 120 of them."""
    draw = random.Random(seed)
    rows = []
    for number in range(40):
        template = number % 2
        numbers = {"a": draw.randint(2, 90), "b": draw.randint(2, 90)}
        rows.append((KINDS["places"][template].format(PLACES[number // 4]), "places"))
        rows.append((KINDS["sums"][template].format(**numbers), "sums"))
        rows.append((KINDS["letters"][template].format(THINGS[number // 4]), "letters"))
    draw.shuffle(rows)
    return rows


def fitted():
    """The router, and the questions that it was not fitted on."""
    rows = questions()
    fitted_rows = [(question, kind) for question, kind in rows for _ in (0, 1)][:200]
    table = ScoreTable.from_rows(
        {
            "prompt": f"{question}{' ' * (number % 2)}",
            "group": kind,
            "scores": {name: float(name == RIGHT[kind]) for name in RIGHT.values()},
        }
        for number, (question, kind) in enumerate(fitted_rows)
    )
    library = Library([Expert(name=name, model=name) for name in RIGHT.values()])
    return Router.fit(table, library=library, predictor="clusters"), rows[100:]
