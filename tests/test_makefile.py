"""What is given to make reaches the command as it is, whatever signs are in it, from a folder of any name."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_ablations.study.commands import next_step

ROOT = Path(__file__).parents[1]
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="there is no make")

ODD = '/tmp/my "data\'s" 100%20 #1?a&b;$HOME `id`\n~ é'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with this Makefile, and in place of the command one that tells what it was given."""
    folder = tmp_path / "my check out's"
    needed = ["base.lock", "torch.lock", "installer.lock", "developers.lock", "install.py"]
    for file in ["pyproject.toml", *(f"requirements/{name}" for name in needed), ".venv/bin/ablate", ".venv/.ready"]:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    shutil.copy(ROOT / "Makefile", folder)
    command = folder / ".venv/bin/ablate"
    told = "import json, os, sys; print(json.dumps([*sys.argv[1:], os.environ.get('ABLATE_HOME')]))"
    command.write_text(f'#!/bin/sh\nexec \'{sys.executable}\' -c "{told}" "$@"\n')
    command.chmod(0o755)
    return folder


def given(folder: Path, *arguments: str, **environment: str) -> list[str | None]:
    """What the command was given by `make` with arguments, and at the end ABLATE_HOME."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("ABLATE", "MAKE", "MFLAGS"))}
    said = subprocess.run(
        ["make", *arguments], cwd=folder, env=clean | environment, capture_output=True, text=True, check=True
    )
    found: list[str | None] = json.loads(said.stdout)
    return found


@pytest.mark.parametrize("target", ["ablate", "plan"])
def test_any_path_and_any_value_reaches_the_command(checkout: Path, target: str) -> None:
    verb = {"ablate": "run"}.get(target, target)
    assert given(checkout, target) == [verb, "techniques", None]
    settings = "dropout.p=0.3 model.name=it's:x"
    asked = [f"DATA={ODD}", "MINUTES=5 5", f"SET={settings}", "PLAN=a b", f"ABLATE_HOME={ODD}"]
    words = ["--minutes", "5 5", "--data", ODD, "--set", "dropout.p=0.3", "--set", "model.name=it's:x"]
    assert given(checkout, target, *asked) == [verb, "a b", *words, ODD]


def test_what_is_advised_reaches_the_command(checkout: Path) -> None:
    words = "ablate run ladder --profile quick --seeds 9 --data a/b --set dropout.p=0.3 --set budget.epochs=20"
    advised = next_step._as_make(words)
    assert advised is not None
    found = given(checkout, *shlex.split(advised)[1:])
    assert found.pop() is None
    assert sorted(map(str, found)) == sorted(words.split()[1:]), "in any order"


def test_what_the_environment_has_is_as_it_is_too(checkout: Path) -> None:
    assert given(checkout, "ablate", DATA=ODD, ABLATE_HOME=ODD) == ["run", "techniques", "--data", ODD, ODD]


def test_an_exported_file_may_be_called_anything(checkout: Path) -> None:
    found = given(checkout, "export", f"OUTPUT={ODD}", "TO=pdf", "WIDTH=6.9")
    assert found == ["export", "techniques", "--to", "pdf", "--output", ODD, "--width", "6.9", None]
