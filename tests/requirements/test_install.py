"""Which build of torch is installed, what happens where it cannot be had, and that the locks fit pyproject.toml."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import threading
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parents[2] / "requirements"
PROJECT = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture
def install() -> ModuleType:
    return module("install")


def wheel(folder: Path, name: str, version: str) -> str:
    """An empty package, that needs one of another lock, as a wheel in an index's folder; returns its hash."""
    path = folder / name / f"{name}-{version}-py3-none-any.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: filelock\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{file},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for file, text in files.items()
    )
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in (files | {f"{info}/RECORD": record + f"{info}/RECORD,,\n"}).items():
            archive.writestr(file, text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "index.html").write_text(f'<a href="{path.name}#sha256={digest}">{path.name}</a>')
    return digest


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def indexes(tmp_path: Path, install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Two real indexes on this machine, in place of PyPI, with its lock, and of the CPU builds', which is yielded."""
    served = tmp_path / "served"
    lock = ""
    for name in ("torch", "torchvision"):
        lock += f"{name}==9.1 \\\n    --hash=sha256:{wheel(served / 'pypi', name, '9.1')}\n"
        wheel(served / "cpu", name, "9.1+cpu")
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "torch.lock").write_text(lock)
    monkeypatch.setattr(install, "HERE", tmp_path / "locks")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=served))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{address}/pypi")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    yield f"{address}/cpu"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def environment(tmp_path: Path, install: ModuleType) -> Path:
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False)
    uv = shutil.which("uv", path=str(Path(sys.executable).parent))
    assert uv, "make test installs uv beside Python"
    install.program(folder, "uv").symlink_to(uv)
    return folder


def version(install: ModuleType, folder: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.check_output([install.program(folder, "python"), "-c", code], text=True).strip()


def test_the_cpu_build_is_installed_where_it_can_be_had(install, environment, indexes) -> None:
    install.install_torch(environment, install.CPU, indexes)
    assert version(install, environment, "torch") == version(install, environment, "torchvision") == "9.1+cpu"


def test_where_it_cannot_be_reached_pypis_is_installed_and_that_is_said(install, environment, indexes, capsys) -> None:
    refused = "http://127.0.0.1:1/cpu"
    install.install_torch(environment, install.CPU, refused)
    assert version(install, environment, "torch") == version(install, environment, "torchvision") == "9.1"
    said = capsys.readouterr().out
    assert f"torch's CPU build cannot be had from {refused}" in said
    assert "refused" in said.lower()
    assert "7 GB" in said


def test_one_build_takes_the_place_of_the_other(install, environment, indexes) -> None:
    for build, expected in ((install.PYPI, "9.1"), (install.CPU, "9.1+cpu"), (install.PYPI, "9.1")):
        install.install_torch(environment, build, indexes)
        assert version(install, environment, "torch") == expected


def test_auto_asks_for_cuda_only_where_there_is_a_driver(install, monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for driver, build in ((False, install.CPU), (True, install.PYPI)):
        monkeypatch.setattr(install, "has_nvidia_driver", lambda driver=driver: driver)
        assert install.build_for("auto") == build
    assert (install.build_for("cpu"), install.build_for("cuda")) == (install.CPU, install.PYPI)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert install.build_for("cpu") == install.PYPI  # which has no CUDA there


@pytest.mark.parametrize("words", [["--torch", "gpu"], ["--torch", "auto", "--versions", "locked"]])
def test_refusals_are_one_sentence_and_write_nothing(install, words, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(install, "free_gigabytes", lambda folder: 0.2)
    assert install.main([str(tmp_path / "new"), *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("versions", "enough"), [("locked", True), ("lowest", False), ("highest", False)])
def test_room_is_asked_for_the_build_that_comes(install, versions, enough, tmp_path, monkeypatch, capsys) -> None:
    """Where the CPU build would do: only locked versions come with it."""

    def reached(folder: Path) -> None:
        raise install.RefusedError("there is room")

    monkeypatch.setattr(install, "build_for", lambda torch: install.CPU)
    monkeypatch.setattr(install, "free_gigabytes", lambda folder: 3.0)
    monkeypatch.setattr(install, "make_environment", reached)
    assert install.main([str(tmp_path / "new"), "--versions", versions]) == 2
    assert ("there is room" in capsys.readouterr().err) == enough


def pins(name: str) -> dict[str, set[str]]:
    """Package to its versions (several, where platforms differ) in a lock, of which every entry has a hash."""
    found: dict[str, set[str]] = {}
    for entry in module("lock").split((FOLDER / f"{name}.lock").read_text()):
        assert "--hash=sha256:" in entry
        package, _, rest = entry.partition("==")
        found.setdefault(canonicalize_name(package), set()).add(rest.split()[0])
    return found


def test_users_get_what_the_project_needs_and_no_tools() -> None:
    base, torch, tools = pins("base"), pins("torch"), pins("developers")
    for requirement in map(Requirement, PROJECT["dependencies"]):
        versions = (base | torch)[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in versions), requirement
    for requirement in map(Requirement, PROJECT["optional-dependencies"]["dev"]):
        assert canonicalize_name(requirement.name) in base | tools
    assert not {"pytest", "mypy", "ruff", "playwright", "hypothesis", "pytest-xdist", "pandas-stubs"} & set(
        base | torch
    )
    assert not [name for name in base if name.startswith(("nvidia-", "cuda-", "torch", "triton"))]


def test_the_lowest_lock_has_the_floors() -> None:
    lowest = pins("lowest")
    for requirement in map(Requirement, PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]):
        floors = [s.version for s in requirement.specifier if s.operator == ">="]
        assert floors, f"{requirement} has no floor"
        assert any(version.startswith(floors[0]) for version in lowest[canonicalize_name(requirement.name)]), (
            requirement
        )
