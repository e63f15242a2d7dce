"""The file that measured figures are kept in, and what the machine that they come from is called in it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch

from cifar_ablations.study.store.home import write_whole
from cifar_ablations.study.store.provenance import provenance

RESULTS = Path(__file__).parent / "RESULTS.md"

HEAD = """# Results

Written by the benchmarks themselves, a section per benchmark and machine; a repetition replaces its section.
What is measured, and how, stands in [README](README.md).
"""


def record(path: Path, title: str, text: str) -> None:
    """Put a section into the file, in place of an older one of the same title; a reader never sees half of it."""
    head, *sections = (path.read_text() if path.exists() else HEAD).split("\n## ")
    kept = {section.partition("\n")[0]: section.partition("\n")[2].strip() for section in sections}
    kept[title] = text.strip()
    body = "".join(f"\n## {name}\n\n{content}\n" for name, content in kept.items())
    write_whole(path, (head.rstrip() + "\n" + body).encode())


def facts(device: torch.device, workers: int) -> dict[str, str]:
    """What `study.store.provenance` knows of code and machine, and of a GPU its memory, driver and libraries."""
    found = provenance(device, workers)
    if device.type == "cuda":
        found["gpu memory"] = f"{torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB"
        found["driver"] = _driver()
        found["cuda"] = str(torch.version.cuda)
        found["cudnn"] = str(torch.backends.cudnn.version())
    return found


def machine(facts: Mapping[str, str]) -> str:
    """What a machine is called in a section's title."""
    if facts["device"] != "cpu":
        return facts["device"]
    return f"{facts['processor']}, {facts['cores']} cores, no GPU".strip()


def described(facts: Mapping[str, str]) -> str:
    """The machine and the versions in a line, without a full stop."""
    processor = f"{facts['processor']}, {facts['cores']} cores"
    versions = f"Python {facts['python']}, torch {facts['torch']}, torchvision {facts['torchvision']}"
    if facts["commit"] != "unknown":
        versions += f", commit {facts['commit'][:7]}{' with changes' if facts['dirty'] == 'true' else ''}"
    if facts["device"] == "cpu":
        return f"{processor}, no GPU; {facts['workers']} worker(s); {versions}"
    gpu = f"{facts['device']}, {facts['gpu memory']}, driver {facts['driver']}"
    return f"{gpu}, CUDA {facts['cuda']}, cuDNN {facts['cudnn']}; {processor}; {versions}"


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, check=True, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.partition("\n")[0].strip() or "unknown"
