"""Before MLflow's server is started: something to show, and a port to show it on."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.reports.pages import rendering
from cifar_ablations.study.commands.ui import DEFAULT_PORT, _record, free_port, serve
from cifar_ablations.study.store.home import Home
from tests.fresh_store import put_fresh_store


def test_without_runs_there_is_nothing_to_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(AblateError, match=r"There are no runs in .* yet"):
        serve(Home(tmp_path), 5000, print)


def test_it_follows_the_store_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looked for the output folder's own, and started a server for a server's."""
    said: list[str] = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example/here/")
    serve(Home(tmp_path), 5000, said.append)
    (sentence,) = said
    assert sentence.endswith("which shows the runs itself: https://mlflow.example/here")
    put_fresh_store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(AblateError, match=r"There are no runs in .*none\.db yet"):
        serve(Home(tmp_path), 5000, said.append)
    assert not (tmp_path / "none.db").exists()


@pytest.mark.exhaustive
def test_a_folder_of_an_odd_name_that_may_not_be_written_to_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(Home, "check_writable", _read_only)
    home, said = Home(put_fresh_store(tmp_path / "a?b%20 #")), list[str]()

    def say(sentence: str) -> None:
        said.append(sentence)
        if sentence.startswith("MLflow: "):
            address = sentence.removeprefix("MLflow: ").partition("/#")[0]
            with urllib.request.urlopen(f"{address}/version", timeout=10) as answer:
                said.append(answer.read().decode())
            raise KeyboardInterrupt

    serve(home, 5600, say)
    assert said[-1].strip() == "MLflow's UI has stopped."
    assert [path.name for path in home.folder.iterdir()] == ["mlflow.db"]


def _read_only(home: Home) -> None:
    raise AblateError("read-only")


def test_a_port_in_use_is_passed_over_and_named() -> None:
    said: list[str] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = free_port(port, said.append)
    assert port < found < port + 50
    assert said == [f"Port {port} is in use; taking {found}."]


def test_pages_lead_to_the_port_that_was_taken_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They said 5000, also when the server had moved."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home, said = Home(tmp_path), []
    _record(home, DEFAULT_PORT, said.append)
    assert rendering.address_of(home.tracking_uri, None) == f"http://127.0.0.1:{DEFAULT_PORT}"
    _record(home, 5003, said.append)
    assert rendering.address_of(home.tracking_uri, None) == "http://127.0.0.1:5003"
    assert said == [], "there are no pages that lead elsewhere"
    home.reports.mkdir()
    (home.reports / "index.html").touch()
    _record(home, 5003, said.append)
    assert said == []
    _record(home, 5001, said.append)
    (sentence,) = said
    assert "lead to port 5003" in sentence
    assert "`ablate report`" in sentence


def test_afree_port_is_taken_without_a_word() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said: list[str] = []
    assert free_port(port, said.append) == port
    assert said == []
