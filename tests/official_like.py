"""Files like the official ones of CIFAR, with a few random images, and a server on this machine that sends them."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from cifar_ablations.study.data.official_files import FOLDERS

READERS = {"cifar10": CIFAR10, "cifar100": CIFAR100}
NOWHERE = "http://127.0.0.1:1/cifar.tar.gz"
"""An address at which every connection is refused at once."""


def put_official(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An official folder below root and its archive beside it, which is returned; torchvision knows their MD5 sums."""
    folder, reader = root / FOLDERS[name], READERS[name]
    folder.mkdir(parents=True)
    rng = np.random.default_rng(int(name.removeprefix("cifar")))
    labels = "labels" if name == "cifar10" else "fine_labels"
    classes = [f"class{i}" for i in range(2)]
    (folder / reader.meta["filename"]).write_bytes(pickle.dumps({reader.meta["key"]: classes}))
    for split in ("train_list", "test_list"):
        sums = []
        for file, _ in getattr(reader, split):
            rows = rng.integers(0, 256, (2, 3072), dtype=np.uint8)
            (folder / file).write_bytes(pickle.dumps({"data": rows, labels: [0, 1]}))
            sums.append([file, _md5(folder / file)])
        monkeypatch.setattr(reader, split, sums)
    monkeypatch.setattr(reader, "meta", reader.meta | {"md5": _md5(folder / reader.meta["filename"])})
    archive = root / reader.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    monkeypatch.setattr(reader, "tgz_md5", _md5(archive))
    return archive


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


class Host:
    """What a server sends, how, and what it was asked for."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.address = ""
        self.takes_ranges = True
        self.sends = len(content)
        """Bytes after which it closes the connection, or falls silent."""
        self.silent = False
        self.error: int | None = None
        """A status to answer with instead of the file."""
        self.asked: list[str | None] = []
        """The Range of each request."""
        self.released = threading.Event()


@contextmanager
def serving(content: bytes) -> Iterator[Host]:
    """A server of one file on 127.0.0.1."""
    host = Host(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            host.asked.append(asked)
            if host.error:
                self.send_error(host.error)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and host.takes_ranges else 0
            if start and start >= len(host.content):
                self.send_error(416)
                return
            if host.silent and not host.sends:
                host.released.wait(10)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(host.content) - start))
            self.end_headers()
            self.wfile.write(host.content[start:][: host.sends])
            if host.silent:
                self.wfile.flush()
                host.released.wait(10)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        host.address = f"http://127.0.0.1:{server.server_address[1]}/cifar.tar.gz"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield host
        finally:
            host.released.set()
            server.shutdown()
            thread.join()
