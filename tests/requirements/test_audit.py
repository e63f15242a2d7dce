"""What is said of known weaknesses: nothing is called looked up that a database did not answer for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.requirements.test_install import module

CLEAN = {"name": "numpy", "version": "2", "vulns": []}
WEAK = {"name": "pillow", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "torch", "skip_reason": "not on PyPI"}


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ([[CLEAN, SKIPPED]], 0, ["1 packages looked up by osv: 0 with", "Not looked up: torch: not on PyPI"]),
        ([[CLEAN, WEAK]], 1, ["pillow 1: PYSEC-1, mended in 2", "2 packages looked up by osv: 1 with"]),
        ([[], [CLEAN]], 0, ["1 packages looked up by pypi"]),
        ([[SKIPPED], [SKIPPED]], 3, []),
        ([[], []], 3, []),
    ],
)
def test_weaknesses_are_named_and_silence_is_no_answer(
    answers: list[list[dict[str, Any]]],
    code: int,
    said: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    audit, asked = module("audit"), iter(answers)
    monkeypatch.setattr(audit, "looked_up", lambda *_: (next(asked), "no network"))
    assert audit.main() == code
    printed = capsys.readouterr()
    assert all(one in printed.out for one in said)
    assert ("Nothing was looked up" in printed.err) == (code == 3)


def test_every_lock_has_hashes() -> None:
    for lock in module("audit").HERE.glob("*.lock"):
        entries = [line for line in lock.read_text().splitlines() if line[:1] not in (" ", "#", "")]
        assert entries
        assert all(line.endswith("\\") for line in entries), f"an entry of {lock.name} has no hash"
