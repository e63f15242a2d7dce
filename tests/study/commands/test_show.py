"""How far a plan or a search has come, as the command line says it: in the same words for both."""

from __future__ import annotations

import pytest

from cifar_ablations.study.commands import show
from cifar_ablations.study.execution.fleets import Progress


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress("trainings", total=14), "  trainings 0/14 done, 0:00 so far"),
        (
            Progress("trainings", total=14, done=3, epochs_total=28, epochs_done=7, diverged=1),
            "  trainings 3/14 done, 0:00 so far, about 0:00 left, 1 diverged",
        ),
        (
            Progress("trials", 10, 4, 40, 20, pruned=2, best=0.5, failed={"a": "b"}, stalled=["c"]),
            "  trials 4/10 done, 0:00 so far, about 0:00 left, best 50.00 %, 2 pruned, 1 stalled, 1 FAILED",
        ),
    ],
)
def test_progress_without_a_terminal_is_a_line(
    progress: Progress, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(show, "LINE_EVERY_SECONDS", 0)
    with show.progress_shown() as shown:
        shown(progress)
    assert capsys.readouterr().out == f"{line}\n"


def test_the_time_left_follows_the_epochs() -> None:
    assert ", about 1:30 left" in show._in_words(Progress("trials", 4, 0, 40, 10), elapsed=30)
