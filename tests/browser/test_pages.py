"""Every page in a real browser, with the network off."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("default")]

WIDTHS = {"desktop": 1200, "phone": 390}


def _open(browser, path: Path, width: int = 1200, scheme: str = "light", bypass_csp: bool = False):
    """A page of a context without a network, and what its console said."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, bypass_csp=bypass_csp
    )
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
    page.goto(path.as_uri())
    return page, said


def _pages(home: Path) -> list[Path]:
    pages = sorted((home / "reports").glob("*.html"))
    assert {p.name.partition("-")[0] for p in pages} >= {
        "index.html",
        "foundations.html",
        "techniques",
        "half",
        "search",
        "compare",
    }
    return pages


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_opens_offline_without_a_complaint_and_fits(browser, home: Path, width: str, scheme: str) -> None:
    for path in _pages(home):
        page, said = _open(browser, path, WIDTHS[width], scheme)
        assert said == [], path.name
        assert page.title()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path.name} is {wide} px too wide on a {width}"
        page.context.close()


MOST_PIXELS, MOST_WORDS = 5_600, 1_800
"""Of the default plan's page at 1280 px, before anything is unfolded; it had 16,570 px and 6,500 words."""


def test_the_first_screen_has_the_question_the_answer_and_the_picture(browser, home: Path) -> None:
    (path,) = (home / "reports").glob("techniques-*.html")
    page, _ = _open(browser, path, 1280)
    for part in ("h1", ".answer", ".forest .wide"):
        box = page.locator(part).bounding_box()
        assert box is not None, part
        assert box["y"] + (0 if "forest" in part else box["height"]) < 800, part
    assert page.evaluate("document.documentElement.scrollHeight") <= MOST_PIXELS
    assert len(page.locator("body").inner_text().split()) <= MOST_WORDS
    page.context.close()


def test_on_a_phone_every_verdict_shows_its_effect(browser, home: Path) -> None:
    (path,) = (home / "reports").glob("techniques-*.html")
    page, _ = _open(browser, path, WIDTHS["phone"])
    rows = page.locator("#verdicts ~ .scroll table tbody tr").all()
    assert len(rows) >= 19
    for row in rows:
        for cell in (row.locator("td").nth(0), row.locator(".chip")):
            box = cell.bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= WIDTHS["phone"]
    assert page.locator(".forest .narrow").is_visible()
    assert not page.locator(".forest .wide").is_visible()
    page.context.close()


def test_the_seeds_of_an_interval_appear_where_it_is_pointed_at(browser, home: Path) -> None:
    (path,) = (home / "reports").glob("techniques-*.html")
    page, _ = _open(browser, path, 1280)
    seeds = page.locator(".wide g[id*='-seeds-'] use").first
    opacity = "element => getComputedStyle(element).fillOpacity"
    assert float(seeds.evaluate(opacity)) == 0
    page.locator(".wide g[id*='-row-']").first.hover()
    assert float(seeds.evaluate(opacity)) > 0.5
    page.emulate_media(media="print")
    assert float(seeds.evaluate(opacity)) == 0
    page.context.close()


def test_the_index_leads_to_every_page(browser, home: Path) -> None:
    page, _ = _open(browser, home / "reports" / "index.html")
    hrefs = [a.get_attribute("href") for a in page.query_selector_all("main a")]
    assert set(hrefs) == {p.name for p in _pages(home)} - {"index.html"}
    for href in hrefs:
        page.goto((home / "reports" / href).as_uri())
        assert page.locator("h1").count() == 1
    page.context.close()


def test_links_within_a_page_and_to_files_lead_somewhere(browser, home: Path) -> None:
    for path in _pages(home):
        page, _ = _open(browser, path)
        for link in page.query_selector_all("a[href]"):
            href = link.get_attribute("href")
            if href.startswith("#"):
                assert page.query_selector(href), f"{path.name}: {href}"
            elif not href.startswith("http"):
                assert (path.parent / href).is_file(), f"{path.name}: {href}"
        page.context.close()


@pytest.mark.parametrize(
    ("pages", "table", "column"),
    [("techniques-*.html", "caption:has-text('Every arm')", 2), ("search-*.html", "caption:has-text('Best val')", 1)],
)
def test_a_press_on_a_header_sorts_by_its_numbers(browser, home: Path, pages: str, table: str, column: int) -> None:
    (path,) = (home / "reports").glob(pages)
    page, said = _open(browser, path)
    found = page.locator(f"table:has({table})")

    def values() -> list[float]:
        cells = found.locator(f"tbody tr > :nth-child({column + 1})")
        return [float(cell.get_attribute("data-value") or "nan") for cell in cells.all()]

    planned = values()
    header = found.locator("thead th").nth(column)
    for order, expected in (("ascending", sorted(planned)), ("descending", sorted(planned, reverse=True))):
        header.locator("button").press("Enter")
        assert header.get_attribute("aria-sort") == order
        assert values() == expected
    header.locator("button").click()
    assert values() == planned
    assert said == []
    page.context.close()


@pytest.mark.skipif("HTML_VALIDATE" not in os.environ, reason="HTML_VALIDATE names no command of npm's html-validate")
def test_every_page_is_valid_html(home: Path) -> None:
    command = [os.environ["HTML_VALIDATE"], "--preset", "standard", "--rule", "unique-landmark:error"]
    done = subprocess.run([*command, *map(str, _pages(home))], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_it_prints(browser, home: Path) -> None:
    (path,) = (home / "reports").glob("techniques-*.html")
    page, _ = _open(browser, path)
    page.emulate_media(media="print")
    assert len(page.pdf()) > 50_000
    page.context.close()


@pytest.mark.skipif("AXE" not in os.environ, reason="AXE names no copy of axe-core's axe.min.js")
def test_nothing_serious_stands_in_the_way_of_a_screen_reader(browser, home: Path) -> None:
    for scheme in ("light", "dark"):
        for path in _pages(home):
            page, _ = _open(browser, path, scheme=scheme, bypass_csp=True)
            page.add_script_tag(path=os.environ["AXE"])
            found = page.evaluate("axe.run()")["violations"]
            serious = [
                (v["id"], [n["target"] for n in v["nodes"]][:3])
                for v in found
                if v["impact"] in ("serious", "critical")
            ]
            assert serious == [], f"{path.name}, {scheme}"
            page.context.close()


@pytest.fixture(scope="module")
def interface(home: Path):
    """MLflow's own interface, served as `make ui` does; yields the address that it tells to open."""
    server = subprocess.Popen(
        [str(Path(sys.executable).with_name("ablate")), "ui", "--port", "5931"],
        env=os.environ | {"ABLATE_HOME": str(home), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        for line in server.stdout:
            if found := re.search(r"http://\S+", line):
                yield found[0]
                break
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()


def _wait(interface: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(interface.partition("#")[0], timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)


def test_mlflows_interface_opens_with_the_seeds_of_an_arm_together(browser, interface: str) -> None:
    _wait(interface)
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.goto(interface)
    page.get_by_text("Group by: arm").first.wait_for(timeout=60_000)
    page.get_by_text("Group: ").first.wait_for(timeout=60_000)
    page.close()


def test_mlflows_interface_shows_the_report_beside_its_plan(browser, home: Path, interface: str) -> None:
    (path,) = (home / "reports").glob("techniques-*.html")
    parent = re.search(r"/#/experiments/\d+/runs/\w+(?=\?[^\"]*\">parent run)", path.read_text("utf-8"))
    assert parent
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    _wait(interface)
    page.goto(f"{interface.partition('/#')[0]}{parent[0]}/artifacts?workflowType=machine_learning")
    page.get_by_text(path.name).first.click(timeout=60_000)
    shown = page.frame_locator("iframe").locator("h1")
    shown.wait_for(timeout=60_000)
    assert shown.inner_text().startswith("What is each technique worth")
    page.close()
