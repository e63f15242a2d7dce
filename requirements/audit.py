"""Looks up the locked packages among known weaknesses, with pip-audit: `make audit`.

Exit code 0: none is known; 1: some are, and which versions mend them; 3: no database of weaknesses can be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SERVICES = ("osv", "pypi")
"""Databases, asked in this order."""
KNOWN, UNREACHABLE = 1, 3


def main() -> int:
    """Look up every lock but that of the lowest versions, which nobody gets without asking; returns the exit code."""
    locks = sorted(path for path in HERE.glob("*.lock") if path.stem != "lowest")
    for service in SERVICES:
        packages, why = looked_up(service, locks)
        known = [one for one in packages if "vulns" in one]
        if not known:  # pip-audit calls those that a database does not answer for skipped, and is content
            print(f"{service} cannot be asked: {why or 'it knows none of the packages'}", file=sys.stderr)
            continue
        for one in packages:
            if "skip_reason" in one:
                print(f"Not looked up: {one['name']}: {one['skip_reason']}")
        weak = [one for one in known if one["vulns"]]
        for one in weak:
            for found in one["vulns"]:
                mended = ", ".join(found["fix_versions"]) or "no version so far"
                print(f"{one['name']} {one['version']}: {found['id']}, mended in {mended}")
        print(f"{len(known)} packages looked up by {service}: {len(weak)} with a known weakness.")
        return KNOWN if weak else 0
    print("Nothing was looked up: no database of weaknesses can be reached from here.", file=sys.stderr)
    return UNREACHABLE


def looked_up(service: str, locks: list[Path]) -> tuple[list[dict[str, Any]], str]:
    """What a database says of each package; with nothing, why not."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    command += ["--vulnerability-service", service, "--timeout", "15", "--format", "json"]
    command += [word for lock in locks for word in ("--requirement", str(lock))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)["dependencies"], ""
    except (ValueError, KeyError):
        return [], (done.stderr.strip().splitlines() or ["no reason given"])[-1]


if __name__ == "__main__":
    sys.exit(main())
