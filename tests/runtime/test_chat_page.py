"""The chat page in a real Chromium: what a person does with it.  Screenshots of its states go to build/screenshots."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from runtime.serve.app import Limits
from tests.paced import Pause, paced
from tests.serving import serving, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="no chromium here; on Debian: apt install chromium chromium-driver",
    ),
]

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
TOOL = """[{"name": "lookup", "description": "Look up a fact about a country", "parameters": {"type": "object",
 "properties": {"country": {"type": "string"}, "field": {"type": "string"}}, "required": ["country", "field"]}}]"""


@pytest.fixture(scope="module")
def pause():
    return Pause(0)


@pytest.fixture(scope="module")
def served(bundle, pause):
    folder, limits = bundle("sample", "int8"), Limits(waiting=16, tokens=64, seconds=60, body=65536)
    with serving(folder, limits, session=paced(folder, pause)) as server:
        yield server


@pytest.fixture(scope="module")
def chromium():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def page(chromium, served):
    """The page as a stranger first sees it."""
    chromium.set_window_size(1000, 800)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chromium.get(served.url)
    chromium.execute_script("localStorage.clear(); sessionStorage.clear()")
    chromium.get_log("browser")
    chromium.get(served.url)
    wait(chromium, lambda: shown(chromium, "model") == served.model)
    chromium.execute_script("options.temperature = '0'")
    yield chromium
    noise = [one["message"] for one in chromium.get_log("browser") if one["level"] == "SEVERE"]
    assert [one for one in noise if "favicon" not in one and "status of" not in one] == []


def wait(page, true, seconds=30):
    WebDriverWait(page, seconds, 0.02).until(lambda _: true())


def element(page, name):
    return page.find_element(By.ID, name)


def shown(page, name):
    return element(page, name).text


def ask(page, text):
    element(page, "said").send_keys(text, Keys.ENTER)


def idle(page):
    """Whether an answer has ended."""
    return element(page, "send").is_displayed()


def shot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.save_screenshot(str(SHOTS / f"{name}.png"))


@pytest.fixture
def slow_steps(pause):
    pause.seconds = 0.15
    yield
    pause.seconds = 0


def test_it_answers_and_shows_rate_and_memory(page):
    shot(page, "empty")
    ask(page, "What is the capital of Norway?")
    wait(page, lambda: "Oslo" in shown(page, "talk") and idle(page))
    assert "tokens/s" in shown(page, "talk") or "tok/s" in shown(page, "talk")
    wait(page, lambda: "MB" in shown(page, "memory") or "GB" in shown(page, "memory"))
    shot(page, "answered")


def test_escape_stops_an_answer_and_the_next_one_works(page, served, slow_steps):
    ask(page, "Tell me about France.")
    wait(page, lambda: element(page, "stop").is_displayed())
    wait(page, lambda: len("".join(one.text for one in page.find_elements(By.CSS_SELECTOR, ".said"))) > 5)
    shot(page, "streaming")
    element(page, "said").send_keys(Keys.ESCAPE)
    wait(page, lambda: idle(page), 5)
    until(lambda: served.server.queue._running is None)
    ask(page, "What is the capital of Norway?")
    wait(page, lambda: "Oslo" in shown(page, "talk") and idle(page), 60)


def test_shift_enter_begins_a_line_and_nothing_is_sent(page):
    element(page, "said").send_keys("one", Keys.SHIFT, Keys.ENTER)
    element(page, "said").send_keys(Keys.NULL, "two")
    assert element(page, "said").get_property("value") == "one\ntwo"
    assert element(page, "empty").is_displayed()


def test_a_thought_is_folded(page):
    element(page, "think").click()
    assert element(page, "think").get_attribute("aria-pressed") == "true"
    ask(page, "What is the capital of Norway?")
    wait(page, lambda: page.find_elements(By.CSS_SELECTOR, "details"))
    wait(page, lambda: idle(page))
    thought = page.find_element(By.CSS_SELECTOR, "details")
    assert thought.get_attribute("open") is None
    shot(page, "thought-folded")
    thought.find_element(By.CSS_SELECTOR, "summary").click()
    assert thought.get_attribute("open") is not None
    shot(page, "thought-open")


def test_a_tool_call_is_shown_and_answered(page):
    element(page, "settings").click()
    element(page, "tool-list").send_keys(TOOL)
    shot(page, "settings")
    element(page, "save").click()
    wait(page, lambda: not element(page, "dialog").is_displayed())
    if element(page, "tools").get_attribute("aria-pressed") != "true":
        element(page, "tools").click()
    ask(page, "What is the population of Norway?")
    wait(page, lambda: idle(page) and page.find_elements(By.CSS_SELECTOR, ".call"))
    shot(page, "tool-call")
    call = page.find_element(By.CSS_SELECTOR, ".call")
    assert "lookup" in call.find_element(By.CSS_SELECTOR, "h3").text
    assert "Norway" in call.find_element(By.CSS_SELECTOR, "pre").text
    call.find_element(By.CSS_SELECTOR, "input").send_keys("5,000,000", Keys.ENTER)
    wait(page, lambda: idle(page) and "tokens/s" in page.find_elements(By.CSS_SELECTOR, ".model")[-1].text)
    shot(page, "tool-answered")
    assert "5,000,000" in page.find_element(By.CSS_SELECTOR, ".call .answered").text


def test_settings_that_can_not_be_are_refused_in_place(page):
    element(page, "settings").click()
    element(page, "tool-list").send_keys("{not json")
    element(page, "save").click()
    assert shown(page, "refused")
    assert element(page, "dialog").is_displayed()
    shot(page, "settings-refused")
    element(page, "dialog").send_keys(Keys.ESCAPE)
    wait(page, lambda: not element(page, "dialog").is_displayed())


def test_what_the_model_says_is_text_not_markup(page):
    page.execute_script("""
        turns = [{role: "user", content: "<img src=x onerror=alert(1)>"},
                 {role: "assistant", reasoning: "<i>hm</i>", calls: [], note: null, wrong: "",
                  content: "<b>no</b> **yes** `code`\\n\\n- a\\n- b\\n\\n```py\\nprint(1)\\n```"}]
        redraw()""")
    talk = element(page, "talk")
    assert talk.find_elements(By.CSS_SELECTOR, "img") == []
    assert "<b>no</b>" in talk.text
    assert [one.text for one in talk.find_elements(By.CSS_SELECTOR, "strong")] == ["yes"]
    assert len(talk.find_elements(By.CSS_SELECTOR, "li")) == 2
    assert "print(1)" in talk.find_element(By.CSS_SELECTOR, "pre").text
    shot(page, "markdown")


def test_a_server_that_refuses_is_said_and_asked_again(page, served, monkeypatch):
    monkeypatch.setattr(served.session, "prepare", broken)
    ask(page, "hello")
    wait(page, lambda: idle(page))
    assert "no room" in shown(page, "talk")
    shot(page, "error")
    monkeypatch.undo()
    again = [one for one in element(page, "talk").find_elements(By.CSS_SELECTOR, "button") if "again" in one.text]
    again[0].click()
    wait(page, lambda: idle(page) and "no room" not in shown(page, "talk"))


def broken(*arguments, **options):
    from runtime.errors import GemmaError

    raise GemmaError("no room for that", "ask for less")


def test_dark_and_narrow(page):
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    ask(page, "What is the capital of Norway?")
    wait(page, lambda: "Oslo" in shown(page, "talk") and idle(page))
    dark = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    shot(page, "dark")
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 780, "deviceScaleFactor": 2, "mobile": True}
    )
    wide = page.execute_script("return document.documentElement.scrollWidth - innerWidth")
    shot(page, "narrow-dark")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= 0
    assert sum(int(one) for one in dark.strip("rgba()").split(",")[:3]) < 200


def test_the_conversation_survives_a_reload_and_a_new_one_is_empty(page, served):
    ask(page, "What is the capital of Norway?")
    wait(page, lambda: "Oslo" in shown(page, "talk") and idle(page))
    page.get(served.url)
    wait(page, lambda: "Oslo" in shown(page, "talk"))
    element(page, "new").click()
    wait(page, lambda: element(page, "empty").is_displayed())
