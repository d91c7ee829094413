"""A hostile table, its report, and a headless browser, where there is one."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from tryage import Library, Router

HOSTILE = (
    "</script><script>window.owned = 1</script>",
    '<img src=x onerror="window.owned = 2">',
    "{{ 7 * 7 }} {% raw %} ${window.owned = 3}",
    "datum['x'] == 1 ? alert(1) : toString.constructor('window.owned = 4')()",
    "[click](javascript:alert(1)) **bold** `code` <!-- <script>",
    "user\u202egnp.exe \u2066hidden\u2069 \u200bzero \x1b[31mred \x00nul",
    "half a pair: \ud83d, and the end of a line:\u2028 next",
    "'\"&amp;&lt;b&gt; &#x3c;script&#x3e;",
)
"""Prompts that try to leave their place in HTML, JSON, templates, expressions or reading order."""

HOSTILE_NAME = "org/</td><script>window.owned = 9</script>{{7*7}}"
HOSTILE_GROUP = 'prose"><svg onload="window.owned = 8">\u202e'


@pytest.fixture(scope="session")
def priced_library(table_library):
    """The made-up library with prices, and one name that tries to be HTML."""
    data = table_library.to_dict()
    for expert, price in zip(data["experts"], (2.0, 1.0, 90.0), strict=True):
        expert["price"] = {"input": price, "output": price}
    data["experts"][2]["name"] = HOSTILE_NAME
    return Library.from_dict(data)


def _renamed(table):
    names = tuple(HOSTILE_NAME if name == "giant" else name for name in table.experts)
    return replace(table, experts=names, kind="scores")


@pytest.fixture(scope="session")
def report_train(table):
    return _renamed(table)


@pytest.fixture(scope="session")
def report_router(report_train, priced_library):
    return Router.fit(report_train, library=priced_library, predictor="clusters")


@pytest.fixture(scope="session")
def report_table(held_out_table):
    """Held-out prompts of two groups, some of them hostile, one unlike the training prompts."""
    table = _renamed(held_out_table)
    prompts = list(table.prompts)
    for place, text in enumerate(HOSTILE):
        prompts[2 * place] = f"{text} {prompts[2 * place]}"
    groups = tuple(HOSTILE_GROUP if group == "prose" else group for group in table.groups)
    losses = table.losses.copy()
    hostile = list(range(0, 2 * len(HOSTILE), 2))
    losses[hostile] = (1.0, 0.0, 0.5)  # writer, which no router chooses for code
    losses[5] = (float("nan"), 0.5, 1.0)
    return replace(table, prompts=tuple(prompts), groups=groups, losses=losses)


@pytest.fixture(scope="session")
def report(report_router, report_table, report_train):
    return report_router.report(report_table, train=report_train)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium that can reach no network, dark or light by `Emulation`."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs the extra dev")
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    binary = next((path for name in names if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs chromium and chromedriver, e.g. apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield running
    running.quit()
