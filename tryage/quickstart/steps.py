"""`run`: the quickstart, step by step; a later run reuses the steps that are finished."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from safetensors import safe_open

from tryage.errors import MissingExtraError, missing_extra
from tryage.evaluation import TaskEvaluations
from tryage.evaluation.verdict import Verdict, judge
from tryage.experts import Expert, Security
from tryage.files import write_text
from tryage.library import Library
from tryage.paths import user_path
from tryage.quickstart import texts
from tryage.quickstart.answers import Answered, answer_all
from tryage.quickstart.plan import Plan
from tryage.quickstart.recipes import CONTEXT, LIBRARY, Recipe
from tryage.quickstart.show import Bar, Show, command_line
from tryage.quickstart.texts import Corpus
from tryage.quickstart.vectors import train_encoder
from tryage.quickstart.workers import Job, run_jobs
from tryage.quickstart.workspace import PARTS, Workspace, cache_folder, check, write_lines
from tryage.report import check_report
from tryage.router import Router
from tryage.scores import ScoreTable

_NEEDED = ("torch", "transformers", "pyarrow", "langchain_core", "llama_index")


def run(
    out: str | Path | None = None,
    *,
    console: Console | None = None,
    plan: Plan | None = None,
    verbose: bool = False,
) -> dict[str, Any]:
    """Train a starter library on this machine, measure it, fit a router and use it.

    Finished work is kept: the next run resumes an interrupted one, and reuses a complete one.

    Args:
        out: folder to keep everything in; None uses the cache (`TRYAGE_CACHE`, else
            ~/.cache/tryage).
        console: where progress and verdict go; None is standard output.
        plan: what to do; None is the starter library.
        verbose: print tables and answered examples too; they are in ``details.txt`` in any case.

    Returns:
        ``{"experts", "evaluation", "verdicts", "examples", "seconds"}``, as ``tryage quickstart
        --json``.

    Raises:
        MissingExtraError: an extra is not installed.
        OutputFolderError: `out` holds something else.
        ExpertError: a training failed.
        TryageError: this Python installation carries too little text.
    """
    _check_extras()
    if out is not None:
        check(Path(out))
    plan = plan or Plan()
    show = Show(console or Console(), verbose=verbose)
    with show.step("texts", "gathering text", 1) as bar:
        corpora = texts.gather(
            train_chars=plan.train_chars,
            held_out_chars=plan.held_out_chars,
            domains=dict.fromkeys(recipe.domain for recipe in plan.recipes),
        )
        bar.advance()
    workspace, cache = _workspaces(out, plan.key(corpus.digest for corpus in corpora.values()))
    _write_texts(plan, corpora, workspace)
    library = _make_experts(show, plan, workspace)
    tables = {part: _table(workspace, part) for part in PARTS}
    router = _fit(show, plan, corpora, workspace, tables["label"], library)
    with show.step("evaluation", "comparing choices", 1) as bar:
        evaluation = router.evaluate(tables["test"], train=tables["label"])
        bar.advance()
    if not isinstance(evaluation, TaskEvaluations):
        evaluation = TaskEvaluations({library.tasks[0]: evaluation})
    verdicts = _judge(router, tables["test"], library)
    show.evaluation(evaluation)
    answered = _answer(show, plan, router, library)
    report = _report(show, workspace, router, tables)
    result = {
        "experts": _described(plan, library, workspace),
        "evaluation": evaluation.to_dict()["tasks"],
        "verdicts": {task: verdict.to_dict() for task, verdict in verdicts.items()},
        "examples": [one.to_dict() for one in answered],
        "seconds": show.timings(),
    }
    write_text(workspace.result, json.dumps(result, ensure_ascii=False, indent=2) + "\n")
    cache.open()
    cache.adopt(workspace)
    write_text(workspace.details, "\n".join(show.details) + "\n")
    # Models lie beside the router, not in it, so their folder must be allowed.
    where = ("--router", str(workspace.router), "--allow-models", str(workspace.folder))
    prompt = _familiar_prompt(router, plan)
    show.end(verdicts, workspace.details, command_line("run", prompt, *where))
    show.report(report)
    return result


def _judge(router: Router, table: ScoreTable, library: Library) -> dict[str, Verdict]:
    """Return the verdict on the test part, task by task: the router has not seen it."""
    verdicts = {}
    for task, part in table.by_task(library).items():
        decisions = router.route_batch(part.prompts, task=task, flags=False)
        columns = np.array([part.experts.index(decision.expert) for decision in decisions])
        verdicts[task] = judge(part, columns, held_out="holdout")
    return verdicts


_PROMPT_CHARS = 70


def _familiar_prompt(router: Router, plan: Plan) -> str:
    """Return the first line of an example, cut at a word, that is like the training prompts."""
    lines = [example.prompt.partition("\n")[0].partition("[")[0] for example in plan.examples]
    prompts = [
        line if len(line) <= _PROMPT_CHARS else line[:_PROMPT_CHARS].rpartition(" ")[0]
        for line in (line.strip() for line in lines)
        if line
    ]
    familiar = (
        prompt for prompt in prompts if not router.route(prompt, flags=False).out_of_distribution
    )
    return next(familiar, prompts[0])


def _report(
    show: Show, workspace: Workspace, router: Router, tables: Mapping[str, ScoreTable]
) -> Path | None:
    """Write the report on the router; None without the extra `report`."""
    try:
        check_report(workspace.report)
    except MissingExtraError:
        return None
    with show.step("report", "drawing the report", 1) as bar:
        router.report(tables["test"], train=tables["label"]).write(workspace.report)
        bar.advance()
    return workspace.report


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: for models this small, more of them wait rather than work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_extras() -> None:
    absent = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        error = missing_extra("hf,langchain,llama-index", "the quickstart")
        raise error from ImportError(f"no module named {absent[0]!r}")


def _workspaces(out: str | Path | None, key: str) -> tuple[Workspace, Workspace]:
    """Return this run's workspace and the cache, each with the other's finished parts."""
    cache = Workspace(cache_folder() / "quickstart" / key, key)
    workspace = cache if out is None else Workspace(user_path(out), key)
    workspace.open()
    workspace.adopt(cache)
    return workspace, cache


def _write_texts(plan: Plan, corpora: Mapping[str, Corpus], workspace: Workspace) -> None:
    """Write training texts and held-out prompts as files: what the experts are made from."""
    for domain, corpus in corpora.items():
        rows = [{"source": source.name, "text": source.text} for source in corpus.train]
        write_lines(workspace.texts(domain), rows)
    counts = {"label": plan.label_prompts, "test": plan.test_prompts}
    for part in PARTS:
        prompts = [
            {"id": excerpt.id, "group": domain, "prompt": excerpt.text}
            for domain, corpus in corpora.items()
            for excerpt in texts.excerpts(
                getattr(corpus, part), count=counts[part], length=plan.prompt_chars
            )
        ]
        write_lines(workspace.prompts(part), prompts)


def _make_experts(show: Show, plan: Plan, workspace: Workspace) -> Library:
    """Train and measure the experts that are not there yet; write and return the library."""
    prompts = sum(workspace.count(part) for part in PARTS)
    total = sum(recipe.steps for recipe in plan.recipes) + prompts * len(plan.recipes)
    title = f"training, measuring {len(plan.recipes)} experts"
    with show.step("experts", title, total) as bar:
        missing = [recipe for recipe in plan.recipes if not workspace.model(recipe).is_dir()]
        bar.advance(sum(recipe.steps for recipe in plan.recipes if recipe not in missing))
        run_jobs([Job(recipe, workspace.folder, plan.mask_share) for recipe in missing], bar.part)
        experts = [_expert(recipe, workspace) for recipe in plan.recipes]
        Library(experts, name=LIBRARY).write(workspace.library)
        library = Library.read(workspace.library)
        with _one_thread():
            _measure_the_rest(plan, workspace, library, bar)
    return library


def _measure_the_rest(plan: Plan, workspace: Workspace, library: Library, bar: Bar) -> None:
    """Measure what an interrupted run left; the workers have done the others."""
    from tryage.labeling import label

    for part in PARTS:

        def advance(name: str, done: int, total: int, part: str = part) -> None:
            bar.part(f"{name} ({part})", done, total)

        label(
            library,
            workspace.prompts(part),
            workspace.scores(part),
            mask_share=plan.mask_share,
            progress=advance,
        )


def _expert(recipe: Recipe, workspace: Workspace) -> Expert:
    folder = workspace.model(recipe)
    return Expert(
        name=recipe.name,
        model=folder.relative_to(workspace.folder).as_posix(),
        task=recipe.task,
        parameters=_count_parameters(folder),
        context_length=CONTEXT,
        security=Security(safetensors=True, remote_code=False),
    )


def _count_parameters(folder: Path) -> int:
    """Count the numbers in a model's weights; tied ones are saved, and count, once."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as weights:
            total += sum(math.prod(weights.get_slice(key).get_shape()) for key in weights.keys())
    return total


def _table(workspace: Workspace, part: str) -> ScoreTable:
    """Return a part's losses; in the order of ids, whichever process was first to write."""
    table = ScoreTable.read(workspace.scores(part))
    return table.select(np.argsort(np.array(table.ids), kind="stable"))


def _fit(
    show: Show,
    plan: Plan,
    corpora: Mapping[str, Corpus],
    workspace: Workspace,
    table: ScoreTable,
    library: Library,
) -> Router:
    """Fit the router, or load the one that is there."""
    with show.step("fit", "fitting the router", 1) as bar:
        if not (workspace.router / "router.json").is_file():
            training = [[source.text for source in corpus.train] for corpus in corpora.values()]
            Router.fit(
                table,
                library=library,
                predictor=plan.predictor,
                encoder=train_encoder(training, dim=plan.encoder_dim),
                progress=False,
            ).save_pretrained(workspace.router)
        bar.advance()
    return Router.from_pretrained(workspace.router)


def _answer(show: Show, plan: Plan, router: Router, library: Library) -> list[Answered]:
    """Send the examples through both adapters, and tell the answers."""
    answered = []
    with show.step("examples", "routing unseen prompts", len(plan.examples)) as bar:
        from tryage.runtime import Runtime

        with _one_thread():
            for one in answer_all(router, Runtime(library), plan.examples):
                answered.append(one)
                bar.advance()
    for number, one in enumerate(answered, 1):
        show.answered(number, one)
    return answered


def _described(plan: Plan, library: Library, workspace: Workspace) -> list[dict[str, Any]]:
    return [
        {
            "name": recipe.name,
            "task": recipe.task,
            "domain": recipe.domain,
            "parameters": library[recipe.name].parameters,
            "model": str(workspace.model(recipe)),
        }
        for recipe in plan.recipes
    ]
