"""MLflow's UI on this machine, opened at the page that matters."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cifar_ablations.ablations import addresses, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.reports.pages.rendering import address_of
from cifar_ablations.study.execution.starting import SAFE_PATH
from cifar_ablations.study.store import views
from cifar_ablations.study.store.home import Home

START_SECONDS = 90
DEFAULT_PORT = 5000
"""Where pages lead before a UI was started."""


def serve(home: Home, port: int, say: Callable[[str], None]) -> None:
    """Run the server until it is stopped; a tracking server has its own, whose address is said.

    Raises AblateError if there is nothing to show.
    """
    if home.tracking_uri.startswith("http"):
        say(f"MLFLOW_TRACKING_URI names a server, which shows the runs itself: {address_of(home.tracking_uri, None)}")
        return
    if not home.has_store:
        file = addresses.sqlite_file(home.tracking_uri)
        raise AblateError(f"There are no runs in {home.shown(file or home.folder)} yet; `make ablate` makes some.")
    port = free_port(port, say)
    # One worker and no background jobs: two processes instead of fourteen.
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        SAFE_PATH: "1",  # or a mlflow.py of the current folder would be run in its place
        "MLFLOW_BACKEND_STORE_URI": home.tracking_uri,  # which may hold a password: others see the words of a command
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--no-serve-artifacts"]
    command += ["--default-artifact-root", home.artifacts.as_uri()]
    say("Starting MLflow (about ten seconds) …")
    with _log(home, port, say) as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until_ready(server, port, output.name)
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


@contextmanager
def _log(home: Home, port: int, say: Callable[[str], None]) -> Iterator[IO[str]]:
    """What the server says goes to a file in the output folder; to a temporary one where that cannot be written to."""
    try:
        home.check_writable()
    except AblateError:
        with tempfile.NamedTemporaryFile("w", prefix="mlflow-server-", suffix=".log") as output:
            yield output
        return
    _record(home, port, say)
    with (home.folder / "mlflow-server.log").open("w", encoding="utf-8") as output:
        yield output


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

    from cifar_ablations.reports.reading import order, stored

    client = mlflow.MlflowClient(tracking_uri=home.tracking_uri)
    plans = stored.find(client, {schema.KIND: schema.KIND_PLAN})
    address = f"http://127.0.0.1:{port}/#/experiments"
    if plans:
        newest = max(plans, key=lambda run: (order.number(run.tags), run.started))
        experiment = client.get_experiment(newest.experiment_id)
        address += f"/{experiment.experiment_id}/runs?workflowType=machine_learning"
        if views.TAG in experiment.tags:
            address += f"&viewStateShareKey={schema.GROUPED_VIEW}"
    return address


def free_port(port: int, say: Callable[[str], None]) -> int:
    """The port on 127.0.0.1, or the next that nobody listens at. Raises AblateError where there is none."""
    for candidate in range(port, min(port + 50, 65_536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
        if candidate != port:
            say(f"Port {port} is in use; taking {candidate}.")
        return candidate
    raise AblateError(f"no free port from {port} to {port + 49}; name another one.")


def wait_until_ready(server: subprocess.Popen[bytes], port: int, log: str) -> None:
    """Until MLflow's server answers. Raises AblateError where it ends, or does not in time; log: the file it writes."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            last = "".join(Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:])
            raise AblateError(f"MLflow's server ended at once; the end of {log}: {last}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise AblateError(f"MLflow's server did not answer within {START_SECONDS} s; see {log}.")
