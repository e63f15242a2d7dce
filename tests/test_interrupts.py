"""Ctrl-C while Python frees an object is neither printed nor lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LOST = """
import time
from cifar_ablations.__main__ import let_interrupts_through

class Interrupted:
    def __del__(self):
        raise KeyboardInterrupt

class Broken:
    def __del__(self):
        raise ValueError("another error")

let_interrupts_through()
Broken()
try:
    Interrupted()
    began = time.monotonic()
    time.sleep(20)
except KeyboardInterrupt:
    print("interrupted", "at once" if time.monotonic() - began < 10 else "late")
"""


def test_an_interrupt_that_is_lost_comes_again() -> None:
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", LOST], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout == "interrupted at once\n"
    assert "KeyboardInterrupt" not in done.stderr
    assert "another error" in done.stderr
