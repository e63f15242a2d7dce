"""Worker processes that stand still, for real, and a coordinator that does not wait long for them."""

from __future__ import annotations

import os
import signal
from multiprocessing import active_children
from pathlib import Path

from cifar_ablations.study.execution.pool import Patience

IMPATIENT = Patience(starting_seconds=60.0, floor_seconds=1.5, factor=3.0)


def send_workers(number: signal.Signals) -> None:
    """Send a signal to every worker process of this one; there must be some."""
    workers = [child.pid for child in active_children()]
    assert workers
    for pid in workers:
        assert pid is not None
        os.kill(pid, number)


NETWORK = """
import os
import signal
from pathlib import Path
from cifar_ablations.study.training.model import NotebookNetwork
class StandingStill(NotebookNetwork):
    steps = 0
    def forward(self, images):
        self.steps += self.training
        if self.steps == {step} and ({always} or not Path({marker!r}).exists()):
            Path({marker!r}).touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().forward(images)
"""


def put_stuck_network(folder: Path, step: int, always: bool = False) -> tuple[str, Path]:
    """The name of a network whose process stops itself at a step, once the folder is in the module path.

    It does so only while there is no file at the path that is returned too; unless always, it does so once.
    """
    marker = folder / "stood-still"
    text = NETWORK.format(step=step, always=always, marker=str(marker))
    (folder / "standing_still_network.py").write_text(text)
    return "standing_still_network:StandingStill", marker
