"""Adds to the documentation the pages that are made of the code itself and of what was measured."""

from __future__ import annotations

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from benchmarks.reference import PAGE, RESULTS
from docs import made, measured

REFERENCE = "reference"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the made pages in the navigation."""
    (section,) = (part["Reference"] for part in config.nav or [] if "Reference" in part)
    for folder in made.FOLDERS:
        section.append({folder.capitalize(): [f"{REFERENCE}/{folder}/{name}.md" for name, _ in made.pages(folder)]})
    section += [{title: f"{REFERENCE}/{name}.md"} for name, (title, _) in made.single_pages().items()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the made pages, and those of the studies as they are."""
    texts = {f"{folder}/{name}": text for folder in made.FOLDERS for name, text in made.pages(folder)}
    texts |= {name: text for name, (_, text) in made.single_pages().items()}
    for name, text in texts.items():
        files.append(File.generated(config, f"{REFERENCE}/{name}.md", content=text))
    for page in sorted(RESULTS.glob(f"*/{PAGE}")):
        name = f"{REFERENCE}/{measured.PAGES}/{page.parent.name}.html"
        files.append(File.generated(config, name, abs_src_path=str(page)))
    return files
