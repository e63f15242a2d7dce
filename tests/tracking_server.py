"""MLflow's tracking server, in this process and on loopback, which can be stopped, slow, broken, or lose answers."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlflow
from werkzeug.serving import BaseWSGIServer, make_server

from tests.fresh_store import put_fresh_store


class TrackingServer:
    """MLflow's own program with a SQLite store in a folder, and what goes wrong with it."""

    def __init__(self, folder: Path, program: Callable[..., Any]):
        self.file = folder / "mlflow.db"
        self.delay = 0.0
        """Seconds that each request takes longer."""
        self.broken = False
        """Whether each is answered with 503, and nothing is done."""
        self.loses = ""
        """The end of the path of a request that is carried out once, and whose answer is lost."""
        self.asked: list[str] = []
        """The ends of the paths of all requests."""
        self._program = program
        self._server: BaseWSGIServer | None = None
        self._port = 0
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def own_client(self) -> mlflow.MlflowClient:
        """Of the store, past the server."""
        return mlflow.MlflowClient(tracking_uri=f"sqlite:///{self.file}")

    def start(self) -> None:
        """Listen, on the same port as before."""
        if self._server is None:
            self._server = make_server("127.0.0.1", self._port, self._answer, threaded=True)
            self._server.daemon_threads = True  # type: ignore[attr-defined]
            self._port = self._server.server_port
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"].rpartition("/mlflow/")[2]
        self.asked.append(path)
        time.sleep(self.delay)
        if self.broken:
            start("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"down for maintenance"]
        if self.loses and path.endswith(self.loses):
            self.loses = ""
            list(self._program(environ, lambda *_: None))
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionError("the answer is lost")
        return self._program(environ, start)


@contextmanager
def tracking_server(folder: Path) -> Iterator[TrackingServer]:
    """Yields one with an empty store, which keeps the files of runs as well; it is stopped at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mlflow's own, on import
        from mlflow.server import ARTIFACTS_DESTINATION_ENV_VAR, SERVE_ARTIFACTS_ENV_VAR, app, handlers
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    # What it needs is not installed, which each request that searches would take long to find out.
    sys.modules.setdefault("mlflow.server.auth", None)  # type: ignore[arg-type]
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    put_fresh_store(folder)
    store = SqlAlchemyStore(f"sqlite:///{folder / 'mlflow.db'}", "mlflow-artifacts:/")
    served = {SERVE_ARTIFACTS_ENV_VAR: "true", ARTIFACTS_DESTINATION_ENV_VAR: str(folder / "files")}
    with (
        patch.object(handlers, "_tracking_store", store),
        patch.object(handlers, "_artifact_repo", None),
        patch.dict(os.environ, {**served, "no_proxy": "*"}),
    ):
        server = TrackingServer(folder, app)
        try:
            yield server
        finally:
            server.stop()
            store.engine.dispose()
