"""The file that measured figures are kept in: one section per benchmark and machine."""

from __future__ import annotations

from pathlib import Path

RESULTS = Path(__file__).parent / "RESULTS.md"

HEAD = """# Results

Written by the benchmarks themselves, a section per benchmark and machine; a repetition replaces its section.
What is measured, and how, stands in [README](README.md).
"""


def record(path: Path, title: str, text: str) -> None:
    """Put a section into the file, in place of an older one of the same title."""
    head, *sections = (path.read_text() if path.exists() else HEAD).split("\n## ")
    kept = {section.partition("\n")[0]: section.partition("\n")[2].strip() for section in sections}
    kept[title] = text.strip()
    body = "".join(f"\n## {name}\n\n{content}\n" for name, content in kept.items())
    path.write_text(head.rstrip() + "\n" + body)
