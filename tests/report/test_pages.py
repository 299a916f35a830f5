"""The pages as a reader meets them, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlparse
from urllib.request import url2pathname

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.report.browser import chromium
from tests.report.conftest import HOSTILE

PIXELS = """
const canvas = document.querySelector('.view3d canvas');
const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
const seen = new Map();
for (let i = 0; i < data.length; i += 4) {
  const key = (data[i] >> 4) << 8 | (data[i + 1] >> 4) << 4 | data[i + 2] >> 4;
  seen.set(key, (seen.get(key) || 0) + 1);
}
const counts = [...seen.values()].sort((a, b) => b - a);
let hash = 0;
for (let i = 0; i < data.length; i += 4) hash = (hash * 31 + data[i] * 3 + data[i + 1] * 5 + data[i + 2]) >>> 0;
return [seen.size, 1 - counts[0] / (data.length / 4), hash];
"""
SETTLED = "return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as made:
        yield made


def open_page(browser: webdriver.Chrome, path: Path, hash: str = "") -> None:
    """Open a page; a scene's is ready when its script says so. The console must have nothing to complain about."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get(path.as_uri() + hash)
    if path.parent.name == "scenes":
        WebDriverWait(browser, 10).until(lambda b: b.execute_script("return document.body.dataset.ready") == "yes")
    browser.execute_script(SETTLED)
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def pages(site: Path) -> list[Path]:
    return [site / "index.html", *sorted(site.glob("compare.html")), *sorted((site / "scenes").glob("*.html"))]


def scene_of(site: Path, image_id: str) -> Path:
    return next(path for path in pages(site) if f"<title>{image_id}</title>" in path.read_text())


def test_every_page_opens_and_every_link_leads_to_a_file(browser: webdriver.Chrome, site: Path) -> None:
    assert len(pages(site)) == 10
    for page in pages(site):
        open_page(browser, page)
        addresses = browser.execute_script(
            "return [...document.querySelectorAll('[href],[src]')]"
            ".map(n => n.getAttribute('href') || n.getAttribute('src'))"
        )
        for address in addresses:
            target = urlparse(urljoin(page.as_uri(), address))
            assert target.scheme in ("file", "data"), address
            assert target.scheme == "data" or Path(url2pathname(target.path)).is_file(), address
        broken = "return [...document.images].filter(i => i.loading != 'lazy' && !i.naturalWidth).length"
        assert browser.execute_script(broken) == 0
        assert browser.execute_script("return [...document.images].filter(i => !i.alt).length") == 0
        unnamed = (
            "[...document.querySelectorAll('button, select, input, svg[role], canvas')].filter(n => n.offsetParent"
        )
        named = " && !(n.textContent.trim() || n.ariaLabel || (n.labels || []).length)).length"
        assert browser.execute_script(f"return {unnamed}{named}") == 0


def test_choosing_a_question_lights_its_regions(browser: webdriver.Chrome, site: Path) -> None:
    open_page(browser, scene_of(site, "room_0006"))
    before = browser.execute_script(PIXELS)
    question = next(
        button
        for button in browser.find_elements(By.CSS_SELECTOR, "#questions button")
        if len(button.find_elements(By.CSS_SELECTOR, "mark")) == 2
    )
    question.click()
    browser.execute_script(SETTLED)
    assert question.get_attribute("aria-pressed") == "true"
    regions = "return [...document.querySelectorAll('.lit-{}')].map(n => n.dataset.region)"
    lit = {which: browser.execute_script(regions.format(which)) for which in "ab"}
    # On the picture its mask and its tag, from above, and in the table.
    assert [len(lit["a"]), len(lit["b"])] == [4, 4]
    assert len(set(lit["a"])) == len(set(lit["b"])) == 1
    assert lit["a"] != lit["b"]
    assert browser.execute_script(PIXELS)[2] != before[2]
    question.send_keys(Keys.ARROW_DOWN)
    assert question.get_attribute("aria-pressed") == "false"
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert browser.find_elements(By.CSS_SELECTOR, ".lit-a") == []


@pytest.mark.parametrize("image_id", ["room_0006", "room_0010"])
def test_the_3d_view_draws_and_turns(browser: webdriver.Chrome, site: Path, image_id: str) -> None:
    open_page(browser, scene_of(site, image_id))
    colours, covered, drawn = browser.execute_script(PIXELS)
    assert colours > 50
    assert covered > 0.15
    canvas = browser.find_element(By.CSS_SELECTOR, ".view3d canvas")
    canvas.send_keys(Keys.ARROW_LEFT)
    browser.execute_script(SETTLED)
    turned = browser.execute_script(PIXELS)[2]
    assert turned != drawn
    canvas.send_keys("0")
    browser.execute_script(SETTLED)
    assert browser.execute_script(PIXELS)[2] == drawn


def test_questions_are_sifted_by_type_and_word(browser: webdriver.Chrome, site: Path) -> None:
    open_page(browser, scene_of(site, "room_0006"))
    browser.find_element(By.ID, "type").send_keys("gap")
    browser.find_element(By.ID, "words").send_keys("desk")
    shown = [item.text for item in browser.find_elements(By.CSS_SELECTOR, "#questions li") if item.is_displayed()]
    assert shown
    assert all("gap ·" in text and "desk" in text for text in shown)
    assert browser.find_element(By.ID, "shown").text == f"{len(shown)} of 200"


def test_a_hostile_caption_is_text(browser: webdriver.Chrome, site: Path) -> None:
    page = scene_of(site, "room_0001")
    open_page(browser, page, "#q1")
    assert browser.title == "room_0001"
    assert HOSTILE in browser.find_element(By.CSS_SELECTOR, "main").text
    assert browser.execute_script("return document.scripts.length") == 3
    for written in pages(site):
        assert "<script>document" not in written.read_text()


@pytest.mark.parametrize("name", ["index.html", "compare.html", "scene"])
def test_a_phone_can_show_it(browser: webdriver.Chrome, site: Path, name: str) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        open_page(browser, scene_of(site, "room_0006") if name == "scene" else site / name)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        if name == "scene":
            assert browser.find_element(By.CSS_SELECTOR, ".view3d canvas").size["width"] > 250
            browser.find_element(By.CSS_SELECTOR, "#questions button").click()
            assert browser.find_elements(By.CSS_SELECTOR, "svg .lit-a")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_mode_changes_the_paper(browser: webdriver.Chrome, site: Path) -> None:
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        open_page(browser, site / "index.html")
        paper = "return getComputedStyle(document.body).backgroundColor"
        assert browser.execute_script(paper) == "rgb(20, 23, 27)"
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_lengths_are_told_as_they_were_said(browser: webdriver.Chrome, site: Path) -> None:
    open_page(browser, scene_of(site, "room_0006"))
    said = browser.execute_script(
        "return [[0.2286, 'in'], [1.6764, 'ft_in'], [0.7, 'cm'], [1.5, 'm'], [0, 'cm']].map(([m, u]) => spoken(m, u))"
    )
    assert said == ["9 in", "5 ft 6 in", "70 cm", "1.5 m", "under 1 cm"]


def test_the_depth_has_a_scale_in_metres(browser: webdriver.Chrome, site: Path) -> None:
    open_page(browser, scene_of(site, "room_0006"))
    ticks = [tick.text for tick in browser.find_elements(By.CSS_SELECTOR, ".scale li")]
    assert len(ticks) == 5
    assert ticks[-1].endswith(" m")
    numbers = [float(tick.removesuffix(" m")) for tick in ticks]
    assert numbers == sorted(numbers)
    assert 0.3 < numbers[0] < numbers[-1] <= 10


def test_what_has_no_ground_says_why(browser: webdriver.Chrome, site: Path) -> None:
    open_page(browser, scene_of(site, "room_0010"))
    text = browser.find_element(By.CSS_SELECTOR, "main").text
    assert "No ground, so no world frame: only 0.4% of the picture is labelled as ground" in text


def test_on_paper_everything_is_dark_on_white(browser: webdriver.Chrome, site: Path) -> None:
    dark = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    try:
        for page in pages(site)[:4]:
            open_page(browser, page)
            look = browser.execute_script(
                "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
            )
            assert look == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
            if page.parent.name == "scenes":
                corner = "document.querySelector('.view3d canvas').getContext('2d').getImageData(2, 2, 1, 1).data"
                browser.execute_script("dispatchEvent(new Event('beforeprint'))")
                assert browser.execute_script(f"return [...{corner}]") == [255, 255, 255, 255]
                browser.execute_script("dispatchEvent(new Event('afterprint'))")
            # Nothing that only a pointer could use.
            assert not any(part.is_displayed() for part in browser.find_elements(By.CSS_SELECTOR, ".controls, .asking"))
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_what_was_not_stored_is_drawn_from_points_and_named(browser: webdriver.Chrome, bare_site: Path) -> None:
    open_page(browser, bare_site / "scenes" / "scene-001.html")
    text = browser.find_element(By.CSS_SELECTOR, "main").text
    assert "--store-images keeps it" in text
    assert "--store-depth keeps it" in text
    colours, covered, _ = browser.execute_script(PIXELS)
    assert colours > 8
    assert covered > 0.01
    assert browser.find_elements(By.CSS_SELECTOR, ".overlay .mask")
