"""Opening an MLflow store: whatever is wrong with it becomes a sentence, and no sentence shows a password.

Each database's driver has exceptions of its own, and none of them is imported here.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from cifar_ablations.ablations import addresses
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.secrets import without_password

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
"""How long a server is asked whether it is there, where the environment says nothing: seconds, and not minutes."""
ONE_REQUEST = "30"
"""Seconds that a server may take for one, where the environment says nothing and who asks tries again by himself."""
IN_MEMORY = ("sqlite://", "sqlite:///", "sqlite:///:memory:")
ADVICE = {
    "maintenance mode": "MLflow keeps runs in folders no more: name a file, as sqlite:///mlflow.db; "
    "`mlflow migrate-filestore` copies what is in a folder.",
    "No module named|load plugin": "That is the database's driver: install it with pip.",
    "unsupported URI|Unity|SQLAlchemy URL": "An address begins with sqlite:///, postgresql://, mysql:// or http://.",
    "schema|revision": "Another version of MLflow wrote it: copy it, then run `mlflow db upgrade` on it.",
    "not a database|malformed": "The file is damaged, or is none of MLflow's: put a copy in its place.",
    "locked": "Another program is writing to it: end that, or wait.",
    "(?i)connect|timed out|max retries|resolve": "Does the server run, and is this its address?",
}
"""What to do, by what the error says."""


OF_THE_STORE = ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR")
"""Codes of MLflow's errors that are none of who asked."""


class StoreError(AblateError):
    """The MLflow store cannot be reached or read; the message says which and what to do."""


@contextmanager
def opening(address: str) -> Iterator[None]:
    """Within it, a store is opened and asked something: MLflow may put off the former until the latter.

    Raises StoreError, in a sentence, for whatever goes wrong.
    """
    if address in IN_MEMORY:
        raise _cannot_be_opened(address, "it is in memory, and would be lost at the end")
    if (file := addresses.sqlite_file(address)) is not None and _is_of_others(file):
        raise _cannot_be_opened(address, "the file holds other tables, and none of MLflow's")
    try:
        with _environment({**PATIENCE, **os.environ}):
            yield
    except AblateError:
        raise
    except Exception as error:
        raise _cannot_be_opened(address, reason_of(error)) from error


@contextmanager
def asked_once() -> Iterator[None]:
    """Within it, MLflow sends each request once: what it repeats by itself could be done twice, as creating a run."""
    timeout = {"MLFLOW_HTTP_REQUEST_TIMEOUT": ONE_REQUEST}
    with _environment({**timeout, **os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}):
        yield


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Within it, the variables of the environment that `opening` and `asked_once` are about are as wanted."""
    before = {name: os.environ.get(name) for name in PATIENCE}
    os.environ |= {name: wanted[name] for name in PATIENCE}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def may_pass(error: Exception, *, served: bool) -> bool:
    """Whether an error of a store may go by itself, or by what its owner does: it is locked or gone, or its server says
    that it cannot now, or not for this user.

    served: whether a server has it, and not this process.
    """
    module = type(error).__module__.partition(".")[0]
    if module == "requests" or getattr(error, "error_code", "") == "TEMPORARILY_UNAVAILABLE":
        return re.search("no such|readonly|malformed|not a database", str(error)) is None
    status = getattr(error, "get_http_status_code", None)
    return served and status is not None and (status() >= 500 or status() in (401, 403, 408, 429))


def failing(error: Exception) -> str | None:
    """A sentence about a store that was opened and then failed; None for an error that is none of a store's."""
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__}
    lost = getattr(error, "error_code", "") in OF_THE_STORE or str(error).startswith("API request to")
    lost |= re.match(r"\(\w+\.(Database|Operational)Error\) ", str(error)) is not None
    if "optuna.exceptions.StorageInternalError" in kinds:
        return (
            f"Optuna's database does not answer ({reason_of(error)}); what has ended is kept, and the same command "
            "goes on with the rest"
        )
    of_network = bool({"requests.exceptions.RequestException", "builtins.ConnectionError"} & kinds)
    of_network &= not isinstance(error, BrokenPipeError)  # which is of a process of ours
    of_mlflow = "mlflow.exceptions.MlflowException" in kinds and lost
    of_database = (
        "sqlalchemy.exc.DatabaseError" in kinds
        and not {
            "sqlalchemy.exc.IntegrityError",
            "sqlalchemy.exc.ProgrammingError",
        }
        & kinds
    )
    if not (of_mlflow or of_network or of_database):
        return None
    reason = reason_of(error)
    return f"The MLflow store failed ({reason}).{_advice(reason)} The same command goes on with what is missing."


def _is_of_others(file: Path) -> bool:
    """Whether a SQLite file has tables, and not MLflow's, which would add its own to them."""
    if not file.is_file():
        return False
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return bool(tables) and "experiments" not in tables
    return False


def _cannot_be_opened(address: str, reason: str) -> StoreError:
    return StoreError(
        f"The MLflow store {without_password(address)} cannot be opened ({reason}).{_advice(reason)} "
        "Set MLFLOW_TRACKING_URI or ABLATE_HOME to name another."
    )


def _advice(reason: str) -> str:
    return next((f" {advice}" for sign, advice in ADVICE.items() if re.search(sign, reason)), "")


def reason_of(error: BaseException) -> str:
    """The first sentence of an error, without its class and without passwords."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if cause := re.search(
        r"""Caused by [^"']*["'](?:\w+\([^)]*\): )?(.*?)["']\)""", first
    ):  # of a server that is not there
        first = cause[1]
    return without_password(re.sub(r"^\(\S+\) ", "", first).split(". ")[0].removesuffix("."))
