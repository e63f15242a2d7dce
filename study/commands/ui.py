"""MLflow's UI on this machine, opened at the page that matters."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.study.store import views
from cifar_ablations.study.store.home import Home

START_SECONDS = 90
DEFAULT_PORT = 5000
"""Where pages lead before a UI was started."""


def serve(home: Home, port: int, say: Callable[[str], None]) -> None:
    """Run the server until it is stopped. Raises AblateError if there is nothing to show."""
    if home.tracking_uri.startswith("sqlite") and not (home.folder / "mlflow.db").exists():
        raise AblateError(f"There are no runs in {home.shown(home.folder)} yet; `make ablate` makes some.")
    port = _free_port(port, say)
    # One worker and no background jobs: two processes instead of fourteen.
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", home.tracking_uri, "--no-serve-artifacts"]
    command += ["--default-artifact-root", home.artifacts.as_uri()]
    say("Starting MLflow (about ten seconds) …")
    _record(home, port, say)
    log = home.folder / "mlflow-server.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(server, port)
            say(
                f"MLflow: {page_address(home, port)}\n"
                "The seeds of an arm stand together; every experiment has this view under its address. Ctrl-C stops."
            )
            server.wait()
        except KeyboardInterrupt:
            say("\nMLflow's UI has stopped.")
        finally:
            server.terminate()
            server.wait()


def _record(home: Home, port: int, say: Callable[[str], None]) -> None:
    """Keep the port for the pages that are written from now on, and say where others lead elsewhere."""
    file = home.folder / schema.UI_PORT_FILE
    try:
        before = int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        before = DEFAULT_PORT
    if before != port and any(home.reports.glob("*.html")):
        say(f"The pages in {home.shown(home.reports)} lead to port {before}; `ablate report` makes them lead here.")
    write_atomically(file, f"{port}\n".encode("ascii"))


def page_address(home: Home, port: int) -> str:
    """The address of the newest plan's runs (the bare one opens another view)."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=home.tracking_uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    newest = client.search_runs(
        experiments,
        f"tags.{schema.KIND} = '{schema.KIND_PLAN}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    address = f"http://127.0.0.1:{port}/#/experiments"
    if newest:
        experiment = client.get_experiment(newest[0].info.experiment_id)
        address += f"/{experiment.experiment_id}/runs?workflowType=machine_learning"
        if views.TAG in experiment.tags:
            address += f"&viewStateShareKey={schema.GROUPED_VIEW}"
    return address


def _free_port(port: int, say: Callable[[str], None]) -> int:
    for candidate in range(port, port + 50):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
        if candidate != port:
            say(f"Port {port} is in use; taking {candidate}.")
        return candidate
    raise AblateError(f"no free port from {port} to {port + 49}; choose another with --port.")


def _wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise AblateError("MLflow's server ended at once; mlflow-server.log in the output folder says why.")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AblateError(f"MLflow's server did not answer within {START_SECONDS} s; see mlflow-server.log.")
