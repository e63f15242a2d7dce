"""How many cores this process may use: by its affinity, and by the CPU quota of the container that it runs in."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

GROUPS = Path("/proc/self/cgroup")
MOUNTED = Path("/sys/fs/cgroup")


def cores(groups: Path = GROUPS, mounted: Path = MOUNTED) -> int:
    """At least 1. A quota of one and a half cores counts as two: one process could not use it up.

    groups: the file that names the control groups of this process; mounted: where the kernel shows them.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *map(math.ceil, _quotas(groups, mounted))]))


def _quotas(groups: Path, mounted: Path) -> Iterator[float]:
    """The cores that each group around this process may use, of those that have a quota; of either version of cgroups.

    A container may show its own group as the outermost one, whatever path the file gives: groups that are not there
    are passed over.
    """
    with suppress(OSError):  # not Linux
        for line in groups.read_text("utf-8", "replace").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = mounted / "cpu" if controllers else mounted
            place = top / path.strip("/")
            for group in (place, *(parent for parent in place.parents if parent.is_relative_to(top))):
                with suppress(OSError, ValueError, ZeroDivisionError):  # ValueError: "max" and -1 are no quota
                    quota, period = _limit(group) if controllers else (group / "cpu.max").read_text().split()
                    if int(quota) > 0:
                        yield int(quota) / int(period)


def _limit(group: Path) -> tuple[str, str]:
    return (group / "cpu.cfs_quota_us").read_text(), (group / "cpu.cfs_period_us").read_text()
