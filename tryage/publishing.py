"""Publishing a router on the Hugging Face Hub, in one commit, with a card."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tryage import persistence
from tryage.cards import CardFacts, model_card
from tryage.consent import LOCAL_HOSTS
from tryage.errors import HubAccessError, OptionError, OutputFolderError, missing_extra
from tryage.experts import Expert
from tryage.hub import HubError, hub_api, hub_errors, list_files
from tryage.hub_routers import HubRouter
from tryage.library import Library
from tryage.persistence import INDEX, RouterState

_HUB_FILES = (".gitattributes", ".gitignore")
_PAGES = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")
"""What a repository may hold beside a router."""


@dataclass(frozen=True)
class PushOptions:
    """How a router is published; see `tryage.Router.push_to_hub`."""

    private: bool = False
    message: str | None = None
    card: str | None = None
    card_facts: CardFacts | None = None
    local_models: bool = False
    training_prompts: bool = False


@dataclass(frozen=True)
class PushedRouter:
    """A router that was published.

    Attributes:
        id: of the repository.
        commit: the hash to name as `revision`.
        url: of the commit.
        private: whether only some accounts see it.
        files: number of its files.
        bytes: of all of them.
    """

    id: str
    commit: str
    url: str
    private: bool
    files: int
    bytes: int


def push(
    state: RouterState, repo_id: str, options: PushOptions, *, token: str | None = None
) -> PushedRouter:
    """Publish a router; arguments and errors as `tryage.Router.push_to_hub`."""
    repository = HubRouter.of(repo_id)
    if repository is None or repository.revision is not None:
        raise OptionError(f"{repo_id!r} is not the id of a repository; write it as ACCOUNT/NAME")
    _check_portable(state, options)
    with tempfile.TemporaryDirectory(prefix="tryage-push-") as temporary:
        folder = Path(temporary) / "router"
        # A root would tell where the library lies on this machine.
        library = Library(state.library.experts, name=state.library.name, root=folder)
        card = options.card or model_card(state, hub_id=repo_id, card_facts=options.card_facts)
        persistence.save(replace(state, library=library), folder, card)
        _check_encoder(folder)
        try:
            return _push_folder(folder, repo_id, options, token)
        except ImportError as error:
            raise missing_extra("hf", f"publishing {repo_id!r} on the Hub") from error
        except HubError as error:
            raise HubAccessError(f"{repo_id}: nothing was published: {error}") from error


def _push_folder(
    folder: Path, repo_id: str, options: PushOptions, token: str | None
) -> PushedRouter:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = hub_api(token)
    with hub_errors(token):
        api.create_repo(repo_id, private=options.private or None, exist_ok=True)
    before = list_files(repo_id, token=token)
    if options.private and not before.private:
        raise OptionError(
            f"{repo_id} exists and is public; nothing was sent. Make it private on the Hub, or "
            "push without private=True (--private)"
        )
    foreign = [
        name
        for name in before.files
        if not persistence.may_hold(name) and name not in (*_HUB_FILES, *_PAGES)
    ]
    if foreign and INDEX not in before.files:
        raise OutputFolderError(
            f"{repo_id} holds {foreign[0]!r} and no router; name another repository"
        )
    paths = sorted(folder.iterdir())
    names = {path.name for path in paths}
    # What an earlier version of the router left would belong to no router.
    stale = [n for n in before.files if persistence.may_hold(n) and n not in (*names, *_PAGES)]
    operations: list[Any] = [CommitOperationAdd(path.name, str(path)) for path in paths]
    operations += [CommitOperationDelete(name) for name in stale]
    with hub_errors(token):
        commit = api.create_commit(
            repo_id,
            operations,
            commit_message=options.message or "Publish a Tryage router",
            parent_commit=before.commit,
        )
    return PushedRouter(
        repo_id,
        str(commit.oid),
        str(commit.commit_url),
        before.private,
        len(paths),
        sum(path.stat().st_size for path in paths),
    )


def _check_portable(state: RouterState, options: PushOptions) -> None:
    """See that a router means the same elsewhere, and holds nothing that may not be shown.

    Raises:
        OptionError: it does not, and that was not allowed.
    """
    here = list(_only_here(state.library))
    if here and not options.local_models:
        raise OptionError(
            f"{len(here)} of {len(state.library)} experts exist on this machine only: "
            f"{', '.join(here[:10])}. Who loads the router gets decisions that name them, but not "
            "the models. Publish the models and name their Hub ids in the library, or push with "
            "local_models=True (--local-models)"
        )
    if state.training_prompts and not options.training_prompts:
        count = sum(len(stored.prompts) for stored in state.training_prompts.values())
        raise OptionError(
            f"the router keeps {count} training prompts, which would be published with it. Push "
            "with training_prompts=True (--training-prompts), or fit it without keep_prompts"
        )
    kinds = [kind for of_task in state.provenance.get("kinds", {}).values() for kind in of_task]
    if any(kind["words"] for kind in kinds) and not options.training_prompts:
        raise OptionError(
            "the router keeps typical words of its training prompts, which would be published with "
            "it. Push with training_prompts=True (--training-prompts), or fit it without keep_words"
        )


def _check_encoder(folder: Path) -> None:
    """See that the encoder of a saved router is not a folder of this machine."""
    encoder = persistence.read_index((folder / INDEX).read_bytes(), folder / INDEX)["encoder"]
    model = encoder.get("model") if encoder else None
    if model is not None and Path(model).is_dir():
        raise OptionError(
            f"the router's encoder is the folder {model!r} of this machine, so nobody else could "
            "load the router. Publish that model on the Hub, and fit the router with its id as "
            "encoder"
        )


def _only_here(library: Library) -> Iterator[str]:
    """Yield the experts whose models or endpoints others cannot reach, with where they lie."""
    for expert in library:
        if _is_local_address(expert):
            yield f"{expert.name} (an endpoint on this machine)"
        elif expert.endpoint is None and isinstance(library.model_path(expert), Path):
            yield f"{expert.name} (model folder {expert.model!r})"


def _is_local_address(expert: Expert) -> bool:
    return expert.endpoint is not None and urlsplit(expert.endpoint.url).hostname in LOCAL_HOSTS
