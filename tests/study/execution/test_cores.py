"""The number of cores, in containers as the kernel shows them to the processes in them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from cifar_ablations.study.execution.cores import cores
from cifar_ablations.study.execution.workers import default_workers

HALF = {"cpu.max": "50000 100000\n"}
"""Half a core."""
V1 = "4:memory:/a\n3:cpuset:/a\n2:cpu,cpuacct:/a/b\n0::/\n"
HALF_V1 = {"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"}


def _counted(folder: Path, groups: str, files: Mapping[str, Mapping[str, str]]) -> int:
    mounted = folder / "cgroup"
    for place, contents in files.items():
        (mounted / place).mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (mounted / place / name).write_text(content)
    (folder / "groups").write_text(groups)
    return cores(folder / "groups", mounted)


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("400000 100000", 4), ("10000 5000", 2),
     ("9900000 100000", 8), ("max 100000", 8), ("1000 100000", 1), ("", 8), ("soon", 8), ("5 0", 8)],
)  # fmt: skip
def test_a_quota_is_rounded_up_and_counts_beside_the_affinity(quota: str, expected: int, tmp_path: Path) -> None:
    assert _counted(tmp_path, "0::/\n", {"": {"cpu.max": quota}}) == expected
    if len(quota.split()) == 2:
        parts = quota.replace("max", "-1").split()
        files = {"cpu/a/b": dict(zip(("cpu.cfs_quota_us", "cpu.cfs_period_us"), parts, strict=True))}
        assert _counted(tmp_path / "cgroup", V1, files) == expected


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/user.slice/run.scope\n", {"user.slice": HALF, "user.slice/run.scope": {"cpu.max": "max 100000"}}, 1),
        ("0::/user.slice/run.scope\n", {"user.slice/run.scope/inner": HALF}, 8),
        ("0::/user.slice/a:b c\n", {"user.slice/a:b c": HALF}, 1),
        ("0::/docker/0123\n", {"": HALF}, 1),
        ("0::/../outside\n", {"": HALF}, 1),
        (V1, {"cpu": HALF_V1}, 1),
        (V1, {"cpu/a": HALF_V1, "cpu/a/b": {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}}, 1),
        (V1, {"memory/a": HALF_V1, "cpuset/a": HALF_V1, "cpu/c": HALF_V1}, 8),
        (V1, {"cpu/a/b": {"cpu.cfs_quota_us": "50000"}}, 8),
    ],
    ids=["around", "within", "odd name", "own root", "outside", "v1 root", "v1 around", "v1 others", "v1 half there"],
)
def test_every_group_around_counts(
    groups: str, files: Mapping[str, Mapping[str, str]], expected: int, tmp_path: Path
) -> None:
    assert _counted(tmp_path, groups, files) == expected


def test_without_control_groups_the_affinity_alone_counts(tmp_path: Path) -> None:
    assert cores(tmp_path / "none", tmp_path) == 8
    assert 1 <= default_workers(torch.device("cpu")) <= 8
    assert default_workers(torch.device("cuda:0")) == 1
