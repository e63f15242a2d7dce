"""Writes the lock files anew from pyproject.toml, with uv: `make lock`, or `make lock UPGRADE=1` for newer versions.

No index is named in a lock: wherever a file comes from, its hash says that it is the one meant.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent / "pyproject.toml"
UV = Path(sys.executable).with_name("uv")
OLDEST_PYTHON = "3.11"
LOCKS = ("base", "torch", "developers", "docs", "audit", "installer")
OF_TORCH = re.compile("(torch|torchvision|triton|nvidia-.*|cuda-.*)==")
"""torch and what only its CUDA build needs."""


def main(upgrade: bool) -> None:
    """Write every lock; what was locked so far stays where it still fits, unless `upgrade`."""
    known = [] if upgrade else [entry for name in LOCKS for entry in read(name)]
    users = compiled(known, PROJECT)
    both = compiled([*known, *users], PROJECT, "--extra", "dev")
    write("base", [entry for entry in users if not OF_TORCH.match(entry)])
    write("torch", [entry for entry in users if OF_TORCH.match(entry)])
    write("developers", [entry for entry in both if entry not in users])
    writers = compiled([*known, *both], PROJECT, "--extra", "dev", "--extra", "docs")
    write("docs", [entry for entry in writers if entry not in both])
    auditors = compiled([*known, *both], PROJECT, "--extra", "dev", "--extra", "audit")
    write("audit", [entry for entry in auditors if entry not in both])
    write("lowest", compiled([], PROJECT, "--extra", "dev", "--resolution", "lowest-direct"))
    write("installer", compiled(known, "-"))


def compiled(known: list[str], source: Path | str, *options: str) -> list[str]:
    """Entries of a lock, for every platform, with hashes; known: entries whose versions are kept where they fit."""
    output = HERE / ".known.lock"
    output.write_text("".join(known))
    command = [UV, "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header", "--no-annotate"]
    command += ["--python-version", OLDEST_PYTHON, "--output-file", output, *options, source]
    try:
        subprocess.run(list(map(str, command)), check=True, text=True, input="uv" if source == "-" else None)
        return split(output.read_text())
    finally:
        output.unlink()


def split(text: str) -> list[str]:
    """A lock's entries: a requirement and the lines of its hashes."""
    return re.findall(r"^\S.*\n(?:    .*\n)*", text, re.MULTILINE)


def read(name: str) -> list[str]:
    """The entries of a lock; none where it is not there yet."""
    path = HERE / f"{name}.lock"
    return split(path.read_text()) if path.exists() else []


def write(name: str, entries: list[str]) -> None:
    """Write a lock."""
    (HERE / f"{name}.lock").write_text("".join(entries))


if __name__ == "__main__":
    main(upgrade="--upgrade" in sys.argv[1:])
