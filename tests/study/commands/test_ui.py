"""Before MLflow's server is started: something to show, and a port to show it on."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.study.commands.ui import _free_port, serve
from cifar_ablations.study.store.home import Home


def test_without_runs_there_is_nothing_to_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(AblateError, match=r"There are no runs in .* yet"):
        serve(Home(tmp_path), 5000, print)


def test_a_port_in_use_is_passed_over_and_named() -> None:
    said: list[str] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = _free_port(port, said.append)
    assert port < found < port + 50
    assert said == [f"Port {port} is in use; taking {found}."]


def test_a_free_port_is_taken_without_a_word() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    said: list[str] = []
    assert _free_port(port, said.append) == port
    assert said == []
