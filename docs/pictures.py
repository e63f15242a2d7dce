"""Take the README's pictures of a report in a real browser: `make pictures`, after `make ablate`.

Chromium is looked for at /usr/bin/chromium, or where the variable CHROMIUM says.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

DOCS = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
COLOURS = 256
A4 = (794, 1123)
"""Pixels at 96 to the inch."""

# Name: width, height, colour scheme, medium, and what is unfolded and stands at the top (where nothing, the head).
VIEWS = {
    "light": (1280, 860, "light", "screen", ""),
    "dark": (1280, 860, "dark", "screen", ""),
    "phone": (390, 1123, "light", "screen", ""),
    "print": (*A4, "light", "print", ""),
    "mechanism": (1100, 700, "light", "screen", "details.mechanism >> nth=0"),
    "gallery": (1100, 520, "light", "screen", "details:has(summary:has-text('Images as the networks saw them'))"),
}


def take(browser: Browser, page: Path, name: str) -> Path:
    """Write the picture of that name; returns its path."""
    width, height, scheme, medium, folded = VIEWS[name]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True)
    opened = context.new_page()
    opened.emulate_media(media=medium, color_scheme=scheme)
    opened.goto(page.as_uri())
    if medium == "print":  # a sheet's margins, which only a printer adds
        opened.add_style_tag(content="body { padding: 1.5cm; }")
    top = 0.0
    if folded:
        opened.locator(folded).evaluate("element => { element.open = true }")
        top = opened.locator(folded).evaluate("element => element.getBoundingClientRect().y + scrollY") - 16
    path = DOCS / f"report-{name}.png"
    clip = {"x": 0, "y": top, "width": width, "height": height}
    opened.screenshot(path=path, full_page=True, clip=clip)
    context.close()
    Image.open(path).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def main() -> None:
    """Take every picture of the newest page of the plan `techniques`, or of the page that is named."""
    folder = Path(os.environ.get("ABLATE_HOME", "out")) / "reports"
    found = [Path(name) for name in sys.argv[1:]] or sorted(folder.glob("techniques-*.html"), key=os.path.getmtime)
    if not found or not found[-1].is_file():
        sys.exit(f"no page of the plan techniques in {folder}: make ablate writes it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name in VIEWS:
            print(take(browser, found[-1].resolve(), name))
        browser.close()


if __name__ == "__main__":
    main()
