"""A router that was published on the Hub of the tests."""

import pytest


@pytest.fixture(scope="session")
def router_files(router, tmp_path_factory):
    """Name → content of a saved router."""
    folder = tmp_path_factory.mktemp("saved") / "router"
    router.save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def published(hub, router_files):
    """The id of a router on the Hub."""
    hub.repositories["me/router"] = hub.kit.Repository()
    hub.repositories["me/router"].add(dict(router_files))
    return "me/router"
