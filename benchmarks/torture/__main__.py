"""`python -m benchmarks.torture`: cases of every kind in turn, on two processes, until the time is over."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from types import ModuleType

from benchmarks.torture import calls, clocks, crashes, damage, disk, ground, inputs, kills, memory, record, waits
from benchmarks.torture.record import Case

FEW_INPUTS = 4
"""Of a short version, which has one case of every other kind."""

KINDS: dict[str, tuple[ModuleType, int]] = {
    kills.KIND: (kills, 3),
    crashes.KIND: (crashes, 2),
    disk.KIND: (disk, 1),
    calls.KIND: (calls, 1),
    clocks.KIND: (clocks, 1),
    waits.KIND: (waits, 1),
    damage.KIND: (damage, 4),
    inputs.KIND: (inputs, 70),
}
"""Every kind, and how many of its cases a round has."""
LAST_SECONDS = 40.0
"""Before the end of the time no case is begun any more: so long may one take."""


def schedule(kinds: Sequence[str], short: bool = False) -> Iterator[tuple[str, int]]:
    """Kinds and numbers of cases, without end unless short, each round in the same mixed order."""
    sizes = {kind: KINDS[kind][1] for kind in kinds}
    if short:
        sizes = {kind: FEW_INPUTS if kind == inputs.KIND else 1 for kind in kinds}
    once = [kind for kind in kinds for _ in range(sizes[kind])]
    Random(0).shuffle(once)
    counts = dict.fromkeys(kinds, 0)
    for _ in range(1) if short else itertools.count():
        for kind in once:
            yield kind, counts[kind]
            counts[kind] += 1


def case(of: ground.Ground, seed: int, kind: str, number: int, keep: bool = False) -> Case:
    """Run one case, in a folder of its own, which stays where asked."""
    folder = of.folder / f"{kind}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    began = time.monotonic()
    try:
        done = KINDS[kind][0].attempt(of, Random(f"{seed}/{kind}/{number}"), folder)
    except Exception:  # of the harness itself, or of a store that cannot be read
        done = ground.Attempt("", 0, [traceback.format_exc(limit=-3).strip().replace("\n", " ")])
    found = Case(kind, number, done.what, done.faults, tuple(done.problems or ()), time.monotonic() - began)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def lane(of: ground.Ground, seed: int, mine: Iterator[tuple[str, int]], until: float, told: Path) -> None:
    """Run cases one after the other until the time is over, and tell of each in a line of a file."""
    with told.open("a", encoding="utf-8") as file:
        for kind, number in mine:
            if time.monotonic() > until:
                return
            file.write(json.dumps(vars(case(of, seed, kind, number))) + "\n")
            file.flush()


def side_by_side(of: ground.Ground, seed: int, kinds: Sequence[str], until: float, lanes: int) -> list[Case]:
    """Run cases in several processes; what does not hold is said at once, with the line that shows it again."""
    pids = []
    for place in range(lanes):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                mine = itertools.islice(schedule(kinds, of.short), place, None, lanes)
                lane(of, seed, mine, until, of.folder / f"lane-{place}")
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        pids.append(pid)
    shown, running, said_at = set[tuple[str, int]](), set(pids), time.monotonic()
    while True:
        running -= {pid for pid in running if os.waitpid(pid, os.WNOHANG)[0]}
        cases = _told(of.folder)
        for one in cases:
            if one.problems and (one.kind, one.number) not in shown:
                shown.add((one.kind, one.number))
                problems = "; ".join(dict.fromkeys(one.problems))
                print(f"{one.kind} {one.number}: {problems}\n  {one.what}\n  {one.again(seed, of.short)}", flush=True)
        if not running:
            return cases
        if time.monotonic() - said_at > 30:
            said_at, counts = time.monotonic(), record.totals(cases)
            print(f"{counts['faults']:,} faults, {counts['inputs']:,} bad inputs, {len(cases):,} cases", flush=True)
        time.sleep(0.5)


def _told(folder: Path) -> list[Case]:
    """All cases that were told of, in the order of the files."""
    lines = [
        line for file in sorted(folder.glob("lane-*")) for line in file.read_text("utf-8").splitlines(keepends=True)
    ]
    return [_case(line) for line in lines if line.endswith("\n")]


def _case(line: str) -> Case:
    said = json.loads(line)
    return Case(**{**said, "problems": tuple(said["problems"])})


def _arguments() -> argparse.Namespace:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=9.0, help="how long all of it may take (default: 9)")
    parser.add_argument("--seed", type=int, help="of what is drawn (default: another one each time; it is printed)")
    parser.add_argument(
        "--only", action="append", choices=[*KINDS, memory.KIND], help="these kinds alone (default: all)"
    )
    parser.add_argument("--case", type=int, help="this case of the kind alone, and all about it (default: many)")
    parser.add_argument(
        "--short", action="store_true", help="one case of each kind, of `ablate run` alone (default: all)"
    )
    parser.add_argument("--lanes", type=int, default=2, help="processes that run cases (default: 2)")
    parser.add_argument(
        "--results", type=Path, help="the file to be written (default: RELIABILITY.md; of a part, none)"
    )
    asked = parser.parse_args()
    if asked.case is not None and len(asked.only or ()) != 1:
        parser.error("--case needs --only KIND")
    return asked


def main() -> int:
    """Run what is asked for; 1 where something did not hold."""
    asked, began = _arguments(), time.monotonic()
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(10**6)
    if asked.only == [memory.KIND]:
        text = memory.measured(asked.minutes)
        print(text)
        record.write(asked.results or record.RELIABILITY, memory.TITLE, text)
        return 0
    kinds = [kind for kind in asked.only or KINDS if kind != memory.KIND]
    print(f"Seed {seed}; kinds: {', '.join(kinds)}", flush=True)
    before = _source_tree()
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        of = ground.make(folder, asked.short, {*crashes.PLACES, *calls.places()})
        print(f"Ready after {time.monotonic() - began:.0f} s, in {folder}", flush=True)
        if asked.case is not None:
            one = case(of, seed, kinds[0], asked.case, keep=True)
            print(
                f"{one.what}\n{one.faults} faults in {one.seconds:.1f} s; it lies in {folder}",
                *one.problems,
                sep="\n  ",
            )
            return int(bool(one.problems))
        cases = side_by_side(of, seed, kinds, began + 60 * asked.minutes - LAST_SECONDS, asked.lanes)
    finally:
        if asked.case is None:
            shutil.rmtree(folder, ignore_errors=True)
    if before != _source_tree():
        cases.append(Case("sources", 0, "", 0, ("files of the checkout have changed",), 0.0))
    text = record.section([kind for kind, _ in KINDS.values()], cases, seed, (time.monotonic() - began) / 60)
    print(text)
    if asked.results or not (asked.only or asked.short):
        record.write(asked.results or record.RELIABILITY, f"Faults and bad input, seed {seed}", text)
    return int(any(one.problems for one in cases))


def _source_tree() -> dict[str, tuple[int, int]]:
    """Size and time of each file of the sources."""
    root = Path(__file__).parents[2]
    found = {}
    for place in ("ablations", "study", "reports", "cifar_ablations", "requirements"):
        for path in (root / place).rglob("*"):
            if "__pycache__" not in path.parts and path.is_file() and not path.is_symlink():
                found[str(path)] = (path.stat().st_size, path.stat().st_mtime_ns)
    return found


if __name__ == "__main__":
    sys.exit(main())
