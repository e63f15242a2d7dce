"""What stands around the code agrees with it: version, licence, and the commands that checks call."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cifar_ablations.study.commands import app

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == metadata.version(PROJECT["name"])
    assert f"\n## {PROJECT['version']}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert CliRunner().invoke(app.app, ["--version"]).stdout == f"ablate {PROJECT['version']}\n"


def test_one_licence_everywhere() -> None:
    assert PROJECT["license"] == yaml.safe_load((ROOT / "CITATION.cff").read_text())["license"] == "MIT"
    assert (ROOT / PROJECT["license-files"][0]).read_text().startswith("MIT License\n")


@pytest.mark.parametrize("place", [".ci/run", ".github/workflows/ci.yml", "README.md", "CONTRIBUTING.md"])
def test_commands_that_are_named_are_in_the_makefile(place: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^ {4}|`|run: |&& |^)make ([a-z-]+)", (ROOT / place).read_text(), re.MULTILINE))
    assert named, "this place names no command any more"
    assert named <= targets


def test_every_target_is_helped_and_phony() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    phony = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)", makefile, re.MULTILINE)[0].replace("\\\n", " ").split()
    helped = re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)
    assert sorted(targets) == sorted(phony) == sorted(helped)


def test_programs_find_their_page_where_they_look() -> None:
    assert (ROOT / "AGENTS.md").resolve() == ROOT / "docs" / "automation.md"
