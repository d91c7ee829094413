"""Publishing routers: one commit, a card with metadata, and nothing that was not allowed."""

import json
import re
import traceback
import warnings

import pytest
import yaml

from tryage import Expert, Library, Router, ScoreTable
from tryage.cards import CardFacts
from tryage.errors import HubAccessError, OptionError, OutputFolderError
from tryage.persistence import INDEX

# huggingface_hub's own upload uses an older way of its HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "me/router"


def push(router, hub, **options):
    return router.push_to_hub(NAME, token=hub.kit.WRITER, **options)


def files(hub):
    repository = hub.repositories[NAME]
    return repository.commits[repository.head]


def card(hub):
    """The metadata and the text of the published card."""
    _, metadata, text = files(hub)["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(metadata), text


def test_a_router_is_published_in_one_commit(hub, router, router_files):
    pushed = push(router, hub, message="The first")
    assert files(hub).keys() == router_files.keys()
    for name in router_files.keys() - {INDEX, "README.md"}:
        assert files(hub)[name] == router_files[name]
    assert len(hub.repositories[NAME].commits) == 2
    assert (pushed.id, pushed.commit) == (NAME, hub.repositories[NAME].head)
    assert (pushed.files, pushed.private) == (len(router_files), False)
    assert pushed.bytes == sum(map(len, files(hub).values()))
    assert pushed.commit in pushed.url


def test_what_an_earlier_version_left_is_removed(hub, router, open7):
    push(router, hub)
    repository = hub.repositories[NAME]
    repository.add(files(hub) | {"predictor-9.safetensors": b"x", ".gitattributes": b"x"})
    push(open7, hub)
    assert "predictor-9.safetensors" not in files(hub)
    assert ".gitattributes" in files(hub)
    assert Router.from_pretrained(NAME, download=True).library == open7.library


def test_the_card_s_metadata_is_what_the_hub_reads(hub, router):
    from huggingface_hub import ModelCard

    card_facts = CardFacts(terms="Made up.", license="apache-2.0", datasets=["me/prompts", "squad"])
    push(router, hub, card_facts=card_facts)
    metadata, text = card(hub)
    assert metadata.keys() == {"library_name", "tags", "license", "datasets", "model-index"}
    assert metadata["library_name"] == "tryage"
    assert metadata["datasets"] == ["me/prompts", "squad"]
    assert text.rstrip().endswith("## Terms of the training data\n\nMade up.")
    read = ModelCard(files(hub)["README.md"].decode()).data
    validation = router.provenance["validation"]["text-generation"]
    values = {(r.task_type, r.metric_type): r.metric_value for r in read.eval_results}
    for key in ("loss", "regret", "selection_accuracy"):
        assert values["text-generation", key] == pytest.approx(validation[key], abs=1e-6)
    assert {r.dataset_name for r in read.eval_results} == {"training table, cross-validated"}
    assert read.license == "apache-2.0"


def test_the_card_gives_the_figures_of_an_evaluation(hub, router, held_out_table):
    report = router.evaluate(held_out_table)
    card_facts = CardFacts(evaluation=report.to_dict(), evaluated_on="40 held-out prompts")
    push(router, hub, card_facts=card_facts)
    [result] = card(hub)[0]["model-index"][0]["results"]
    assert result["dataset"]["name"] == "40 held-out prompts"
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values["loss"] == pytest.approx(report.router["loss"], abs=1e-6)
    assert all(isinstance(value, float) for value in values.values())


def test_a_router_without_measurements_claims_none(hub, table_library):
    push(Router.from_library(table_library), hub)
    assert "model-index" not in card(hub)[0]


def test_names_cannot_break_the_metadata(hub, table):
    odd = Library(
        [Expert(name=name, model=f"org/{name}") for name in ("coder", "writer", "giant")]
        + [Expert(name="a|b\n---\nc", model="org/d", task="fill-mask")],
        name="a: [b]\n---\n# c",
    )
    push(Router.fit(table, library=odd, predictor="clusters"), hub)
    metadata, text = card(hub)
    assert metadata["model-index"][0]["name"] == "a: [b] --- # c"
    assert text.startswith("# a: [b] --- # c\n")
    assert "| a\\|b --- c | fill-mask |" in text


@pytest.mark.parametrize(
    ("card_facts", "message"),
    [
        ({"license": "My own"}, "licence 'My own': write the Hub's identifier"),
        ({"datasets": ["a b"]}, "data set 'a b': write its Hub id"),
    ],
)
def test_wrong_facts_are_refused(card_facts, message):
    with pytest.raises(OptionError, match=message):
        CardFacts(**card_facts)


@pytest.mark.parametrize("kind", ["text-generation", "fill-mask"])
def test_the_usage_block_of_a_card_runs_when_pasted(hub, table, kind, capsys):
    rows = [
        {"name": name, "model": f"org/{name}", "task": kind}
        for name in ("coder", "writer", "giant")
    ]
    lines = [
        {
            "prompt": f"{prompt} [MASK]" if kind == "fill-mask" else prompt,
            "task": kind,
            "losses": one,
        }
        for prompt, one in zip(
            table.prompts,
            ({"coder": a, "writer": b, "giant": c} for a, b, c in table.losses),
            strict=True,
        )
    ]
    library = Library.from_dict({"experts": rows})
    push(Router.fit(ScoreTable.from_rows(lines), library=library, predictor="clusters"), hub)
    [block] = re.findall(r"```python\n(.*?)```", card(hub)[1], re.DOTALL)
    exec(compile(block, "card", "exec"), {})
    assert " of 3 eligible experts" in capsys.readouterr().out


def test_experts_of_this_machine_are_told_before_anything_is_sent(hub, table, tmp_path):
    (tmp_path / "models/coder").mkdir(parents=True)
    rows = [
        {"name": "coder", "model": "models/coder"},
        {"name": "writer", "model": "org/writer", "endpoint": {"url": "http://127.0.0.1:8000/v1"}},
        {"name": "giant", "model": "org/giant"},
    ]
    library = Library.from_dict({"experts": rows}, root=tmp_path)
    router = Router.fit(table, library=library, predictor="clusters")
    with pytest.raises(OptionError) as caught:
        push(router, hub)
    message = str(caught.value)
    assert message.startswith("2 of 3 experts exist on this machine only: coder (model folder 'mo")
    assert "writer (an endpoint on this machine)" in message
    assert "local_models=True (--local-models)" in message
    assert hub.requests == []
    push(router, hub, local_models=True)
    for content in files(hub).values():
        assert str(tmp_path).encode() not in content
    assert json.loads(files(hub)[INDEX])["library_root"] == "."
    assert Router.from_pretrained(NAME, download=True).library == library


def test_an_encoder_that_is_a_folder_is_told(hub, table, table_library, tmp_path):
    from tryage.predictors import STORED

    class Folder:
        name, dim = str(tmp_path), 4

        def encode(self, prompts):
            import numpy as np

            return np.eye(4, dtype=np.float32)[[len(prompt) % 4 for prompt in prompts]]

        def save(self, folder):
            return {"kind": "sentence", "model": str(tmp_path)}

    assert "clusters" in STORED
    router = Router.fit(table, library=table_library, predictor="clusters", encoder=Folder())
    with pytest.raises(OptionError, match=r"encoder is the folder .* of this machine"):
        push(router, hub, local_models=True)
    assert hub.requests == []


def test_training_prompts_are_told(hub, table, table_library):
    router = Router.fit(table, library=table_library, predictor="clusters", keep_prompts=True)
    with pytest.raises(OptionError, match=r"keeps 120 training prompts.*--training-prompts"):
        push(router, hub)
    assert hub.requests == []
    push(router, hub, training_prompts=True)
    assert "prompts.json" in files(hub)
    assert "The folder holds prompts of the training data." in card(hub)[1]
    assert Router.from_pretrained(NAME, download=True).training_prompts


def test_words_of_training_prompts_are_told(hub, table, table_library):
    router = Router.fit(table, library=table_library, predictor="clusters", keep_words=True)
    with pytest.raises(OptionError, match=r"keeps typical words .*--training-prompts"):
        push(router, hub)
    assert hub.requests == []
    push(router, hub, training_prompts=True)
    assert Router.from_pretrained(NAME, download=True).kinds == router.kinds


def test_private_repositories(hub, router):
    assert push(router, hub, private=True).private
    assert hub.repositories[NAME].private
    assert push(router, hub).private, "a repository keeps what it is"


def test_a_public_repository_is_never_taken_for_a_private_one(hub, router):
    push(router, hub)
    commits = list(hub.repositories[NAME].commits)
    with pytest.raises(OptionError, match="exists and is public; nothing was sent"):
        push(router, hub, private=True)
    assert list(hub.repositories[NAME].commits) == commits


def test_a_repository_of_something_else_is_left_alone(hub, router):
    hub.repositories[NAME] = hub.kit.Repository()
    hub.repositories[NAME].add({"README.md": b"x", "pytorch_model.bin": b"x"})
    with pytest.raises(OutputFolderError, match=r"holds 'pytorch_model\.bin' and no router"):
        push(router, hub)
    assert len(hub.repositories[NAME].commits) == 2


@pytest.mark.parametrize("name", ["router", "me/router/x", "me/router@v1", "./me/router"])
def test_what_is_no_id_is_refused(hub, router, name):
    with pytest.raises(OptionError, match="write it as ACCOUNT/NAME"):
        router.push_to_hub(name, token=hub.kit.WRITER)
    assert hub.requests == []


@pytest.mark.parametrize("where", ["/api/repos/create", "/api/models/me/router?", "/preupload/"])
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_a_hub_that_refuses(hub, router, where, status):
    token = "hf_secretsecretsecret"
    hub.repositories[NAME] = hub.kit.Repository()
    hub.faults["/api/repos/create"] = lambda h: h.answer(200, {"url": hub.url}) or True
    hub.faults[where] = lambda handler: handler.refuse(status, "Strange") or True
    with pytest.raises(HubAccessError, match="me/router: nothing was published: the Hub") as caught:
        router.push_to_hub(NAME, token=token)
    assert token not in "".join(traceback.format_exception(caught.value))
    assert len(hub.repositories[NAME].commits) == 1


def test_an_upload_that_fails_publishes_nothing(hub, router):
    hub.faults["/lfs/"] = 403
    with pytest.raises(HubAccessError, match=r"nothing was published: .*status 403"):
        push(router, hub)
    assert len(hub.repositories[NAME].commits) == 1


def test_two_who_publish_at_once(hub, router, open7):
    def overtaken(handler):
        hub.faults.clear()
        hub.repositories[NAME].add({"README.md": b"another's"})
        return False

    hub.faults["/preupload/"] = overtaken
    with pytest.raises(HubAccessError, match="somebody else changed the repository meanwhile"):
        push(router, hub)
    assert files(hub) == {"README.md": b"another's"}


def test_what_is_left_out_is_told(hub, router):
    with pytest.warns(UserWarning, match="me/router: saved without the exclusion of coder"):
        push(router.excluding({"coder": "today"}), hub)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        push(router, hub)
