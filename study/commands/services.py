"""What several machines share, on this one, for trying: PostgreSQL, and an MLflow server that keeps its runs there."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.study.commands.ui import free_port, wait_until_ready
from cifar_ablations.study.execution.starting import SAFE_PATH
from cifar_ablations.study.store.home import Home

USER, OF_MLFLOW, OF_SEARCHES = "ablate", "mlflow", "ablate"
"""The database's user, and the names of its databases: MLflow and Optuna each have a table of one name."""
POSTGRES_USER = "postgres"
"""As whom PostgreSQL runs where this is run as root, which it refuses to run as."""
PLACES = "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/pgsql/bin"
START_SECONDS = 30.0
PARTIAL = "partial-"
"""How the name of a folder begins that is not whole yet."""


@dataclass(frozen=True)
class Services:
    """Where they are, as environment variables have it."""

    tracking: str
    """For MLFLOW_TRACKING_URI."""
    database: str
    """For ABLATE_STORAGE, with its password."""
    postgres: Postgres


class Postgres:
    """A PostgreSQL server of this machine's programs, in a folder of its own; it listens on 127.0.0.1 alone."""

    def __init__(self, folder: Path, port: int):
        """Make the folder, where it is not there yet. Raises AblateError where that, or PostgreSQL, cannot be had."""
        self._bin, self.folder, self.port = _programs(), folder, port
        as_root = os.name == "posix" and not os.getuid()
        self._as: dict[str, Any] = (
            {"user": POSTGRES_USER, "group": POSTGRES_USER, "extra_groups": []} if as_root else {}
        )
        self._password = folder.with_name("password")
        self._process: subprocess.Popen[bytes] | None = None
        if not (folder / "PG_VERSION").exists():
            self._make()

    def url(self, database: str) -> str:
        """Of a database, for SQLAlchemy."""
        return f"postgresql+psycopg://{USER}:{self._password.read_text()}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server, and make the databases that are not there yet. Raises AblateError."""
        command = [self._bin / "postgres", "-D", self.folder, "-h", "127.0.0.1", "-p", self.port, "-k", ""]
        with self.folder.with_name("postgres.log").open("ab") as log:
            self._process = process = subprocess.Popen(
                list(map(str, command)), stdout=log, stderr=log, cwd="/", **self._as
            )
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self._make_databases()
                return
            except Exception as error:
                if process.poll() is not None or time.monotonic() > until:
                    raise AblateError(
                        f"PostgreSQL did not start ({str(error).splitlines()[0]}); see {log.name}"
                    ) from None
                time.sleep(0.2)

    def stop(self) -> None:
        """Stop the server, ending its connections."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(2)  # PostgreSQL's "fast" way
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(START_SECONDS)
            self._process.kill()
            self._process.wait()

    def _make(self) -> None:
        """Make the folder beside its place, and put it there when it is whole."""
        self._password.parent.mkdir(parents=True, exist_ok=True)
        for left in self.folder.parent.glob(f"{PARTIAL}*"):
            shutil.rmtree(left)
        with TemporaryDirectory(prefix=PARTIAL, dir=self.folder.parent) as temporary:
            folder, given = Path(temporary) / "data", Path(temporary) / "password"
            folder.mkdir(mode=0o700)
            given.touch(0o600)
            given.write_text(secrets.token_hex(16))
            if self._as:
                for path in (Path(temporary), folder, given):
                    self._give(path)
            words = [self._bin / "initdb", "-D", folder, "-U", USER, "--auth=scram-sha-256", f"--pwfile={given}"]
            words += ["--encoding=UTF8", "--no-locale"]
            made = subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd="/", **self._as)
            if made.returncode:
                hint = ""
                if self._as:
                    hint = f"; it runs as the user {POSTGRES_USER}, who must be able to reach that folder"
                said = made.stderr.strip()[-200:]
                raise AblateError(f"PostgreSQL made no database in {self.folder.parent} ({said}){hint}")
            self._password.touch(0o600)
            self._password.write_text(given.read_text())
            folder.rename(self.folder)

    def _give(self, path: Path) -> None:
        try:
            shutil.chown(path, POSTGRES_USER, POSTGRES_USER)
        except LookupError:
            raise AblateError(
                f"PostgreSQL does not run as root, and there is no user {POSTGRES_USER}: make one (useradd "
                f"{POSTGRES_USER}), or run this as another user"
            ) from None

    def _make_databases(self) -> None:
        import psycopg

        with psycopg.connect(self.url("postgres").replace("+psycopg", ""), autocommit=True) as connection:
            there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            for name in {OF_MLFLOW, OF_SEARCHES} - there:
                connection.execute(f"CREATE DATABASE {name}".encode())


@contextmanager
def running(folder: Path, postgres_port: int, mlflow_port: int, say: Callable[[str], None]) -> Iterator[Services]:
    """Both services, until the block ends; their data stay in the folder."""
    _check_driver()
    with ExitStack() as stack:
        postgres = Postgres(folder / "postgres", free_port(postgres_port, say))
        stack.callback(postgres.stop)
        postgres.start()
        port = free_port(mlflow_port, say)
        stack.enter_context(_mlflow(folder, postgres, port))
        yield Services(f"http://127.0.0.1:{port}", postgres.url(OF_SEARCHES), postgres)


@contextmanager
def _mlflow(folder: Path, postgres: Postgres, port: int) -> Iterator[None]:
    artifacts = folder / "artifacts"
    artifacts.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_BACKEND_STORE_URI": postgres.url(OF_MLFLOW),  # others see the words of a command
        SAFE_PATH: "1",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--serve-artifacts", "--artifacts-destination", str(artifacts)]
    with (folder / "mlflow.log").open("ab") as log:
        server = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_ready(server, port, log.name)
        yield
    finally:
        server.terminate()
        server.wait()


def serve(home: Home, postgres_port: int, mlflow_port: int, say: Callable[[str], None]) -> None:
    """Run both until Ctrl-C, and say what makes other commands use them."""
    home.check_writable()
    say("Starting PostgreSQL and MLflow (about 20 seconds) …")
    with running(home.folder / "services", postgres_port, mlflow_port, say) as there:
        say(
            f"On 127.0.0.1, with their data in {home.shown(home.folder / 'services')}. In other terminals, each with "
            "an ABLATE_HOME of its own:"
        )
        # As they are, whatever the terminal's width: they are copied.
        print(f"  export MLFLOW_TRACKING_URI={there.tracking}\n  export ABLATE_STORAGE={there.database}", flush=True)
        say("then `ablate run`: each trains what no other has in hand. Ctrl-C stops both.")
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(3_600)
    say("\nPostgreSQL and MLflow have stopped; the same command starts them with what they had.")


def _check_driver() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise AblateError("PostgreSQL's driver is missing: pip install 'cifar-ablations[cluster]'") from None


def _programs() -> Path:
    """The folder of PostgreSQL's programs, the newest. Raises AblateError where there is none."""
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    for pattern in PLACES:
        folders += sorted(Path("/").glob(pattern.lstrip("/")), key=_version, reverse=True)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise AblateError(
        "PostgreSQL's programs are not on this machine: apt install postgresql, dnf install postgresql-server, or "
        "brew install postgresql"
    )


def _version(folder: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(folder))]
