"""The page in headless Chromium: what it draws, what its filters do, and what stays text."""

import time

import pytest

pytestmark = pytest.mark.enable_socket


def opened(browser, path, *, width=1280, scheme="light"):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.as_uri())
    wait(browser, "return document.body.dataset.state === 'drawn'")


def wait(browser, condition):
    end = time.monotonic() + 60
    while not browser.execute_script(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.05)


@pytest.fixture(scope="module")
def path(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(path)
    return path


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (820, "dark"), (1400, "light")])
def test_every_plot_is_drawn_without_a_word_on_the_console(browser, path, width, scheme):
    opened(browser, path, width=width, scheme=scheme)
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('[data-plot]')].map(e => ["
        "e.dataset.plot, e.querySelectorAll('svg, canvas').length,"
        "e.querySelector('svg, canvas')?.getBoundingClientRect().height ?? 0])"
    )
    names = {name for name, _, _ in drawn}
    assert names == {
        "summary",
        "mean",
        "chosen",
        "front-cost",
        "front-size",
        "map",
        "regret",
        "reliability",
    }
    assert all(count == 1 and height > 50 for _, count, height in drawn)
    assert browser.get_log("browser") == []
    spoken = browser.execute_script(
        "return [...document.querySelectorAll('[data-plot]')].map(e => "
        "e.querySelector('[aria-label]')?.getAttribute('aria-label') ?? "
        "e.getAttribute('aria-label'))"
    )
    assert all(text and len(text) > 20 for text in spoken), spoken
    wide = "return document.documentElement.scrollWidth"
    assert browser.execute_script(wide) <= width


def test_hostile_text_stays_text(browser, path):
    opened(browser, path)
    assert browser.execute_script("return window.owned") is None
    assert browser.execute_script("return document.querySelectorAll('script').length") == 3
    shown = browser.execute_script("return document.body.innerText")
    assert "<script>window.owned = 1</script>" in shown


def test_a_tooltip_shows_a_prompt_as_text(browser, path):
    opened(browser, path)
    browser.execute_script(
        "const e = document.querySelector('[data-plot=\"map\"]'); e.scrollIntoView()"
    )
    wait(browser, POINTED)
    assert browser.execute_script("return window.owned") is None
    assert browser.execute_script("return document.querySelectorAll('#tooltip *').length") > 3


POINTED = """
const canvas = document.querySelector('[data-plot="map"] canvas');
const box = canvas.getBoundingClientRect();
for (let i = 0; i < 4000; i++) {
  const at = {clientX: box.left + Math.random() * box.width,
              clientY: box.top + Math.random() * box.height, bubbles: true};
  canvas.dispatchEvent(new PointerEvent('pointermove', at));
  canvas.dispatchEvent(new MouseEvent('mousemove', at));
  const tip = document.getElementById('tooltip');
  if (!tip.hidden && tip.textContent.includes('group')) return true;
}
return false;
"""


def output(browser):
    return browser.execute_script("return document.querySelector('.filters output').textContent")


def test_filters_act_on_plots_and_table(browser, path, report):
    [values] = report.tasks.values()
    opened(browser, path)
    total = len(values.prompts)
    assert f"{total} of {total} prompts" in output(browser)
    select = (
        "const s = document.querySelector('form.filters select[name=\"%s\"]');"
        "s.value = '%d'; s.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    browser.execute_script(select % ("group", 1))
    expected = int((values.prompts.group == 1).sum())
    assert f"{expected} of {total} prompts" in output(browser)
    groups = browser.execute_script(
        "return [...document.querySelectorAll('table[id$=\"-worst\"] tbody tr:not([hidden])')]"
        ".map(row => row.dataset.group)"
    )
    assert set(groups) <= {"1"}
    column = int(values.prompts.chosen[values.prompts.group == 1][0])
    browser.execute_script(select % ("expert", column))
    both = int(((values.prompts.group == 1) & (values.prompts.chosen == column)).sum())
    assert f"{both} of {total} prompts" in output(browser)
    browser.execute_script("document.querySelector('form.filters button[type=reset]').click()")
    wait(
        browser,
        "return document.querySelector('.filters output').textContent"
        f".includes('{total} of {total}')",
    )
    assert browser.get_log("browser") == []


def test_the_map_is_coloured_anew(browser, path):
    opened(browser, path)
    for colour in ("map-expert", "map-predicted:1"):
        browser.execute_script(
            "const s = document.querySelector('form.colours select');"
            f"s.value = '{colour}'; s.dispatchEvent(new Event('change', {{bubbles: true}}))"
        )
        name = colour.partition(":")[0]
        wait(
            browser,
            f"return document.querySelector('[data-plot=\"map\"]').dataset.drawn === '{name}'",
        )
    assert browser.get_log("browser") == []


def test_tables_sort_by_their_numbers_from_the_keyboard(browser, path):
    from selenium.webdriver.common.keys import Keys

    opened(browser, path)
    button = browser.find_element("css selector", "table[id$='-summary'] thead th.number button")
    values = (
        "return [...document.querySelectorAll('table[id$=\"-summary\"] tbody tr')]"
        ".map(row => Number(row.cells[1].dataset.value))"
    )
    for direction in ("descending", "ascending"):
        button.send_keys(Keys.ENTER)
        numbers = browser.execute_script(values)
        assert numbers == sorted(numbers, reverse=direction == "descending")
        state = "return arguments[0].parentElement.getAttribute('aria-sort')"
        assert browser.execute_script(state, button) == direction


def test_what_was_drawn_for_the_dark_prints_on_white(browser, path):
    opened(browser, path, scheme="dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    colours = browser.execute_script(
        "return [...document.querySelectorAll('[class*=\"role-axis\"] text')]"
        ".map(text => getComputedStyle(text).fill)"
    )
    assert set(colours) == {"rgb(0, 0, 0)"}
    back = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(back) == "rgb(255, 255, 255)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
