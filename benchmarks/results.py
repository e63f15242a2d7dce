"""The file that measured figures are kept in, and the names in it of the machines that they come from."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.record import ProvenanceRecord
from cifar_ablations.study.store.provenance import instructions, provenance

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
    write_atomically(path, (head.rstrip() + "\n" + body).encode())


@dataclass(frozen=True)
class Facts(ProvenanceRecord):
    """Code and machine that figures come from; of a GPU its memory, driver and libraries too."""

    instructions: str = ""
    """Of the processor: its widest vectors, and bf16 where it has them."""
    gpu_memory: str = ""
    driver: str = ""
    cuda: str = ""
    cudnn: str = ""


def facts(device: torch.device, workers: int) -> Facts:
    """The facts about this checkout and this machine."""
    found = Facts(**vars(provenance(device, workers)), instructions=_instructions())
    if device.type != "cuda":
        return found
    return replace(
        found,
        gpu_memory=f"{torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB",
        driver=_driver(),
        cuda=str(torch.version.cuda),
        cudnn=str(torch.backends.cudnn.version()),
    )


def machine(facts: Facts) -> str:
    """A machine's name in a section's title."""
    if facts.device != "cpu":
        return facts.device
    return f"{_processor(facts)}, no GPU".strip()


def described(facts: Facts) -> str:
    """The machine and the versions in a line, without a full stop."""
    processor = _processor(facts)
    versions = f"Python {facts.python}, torch {facts.torch}, torchvision {facts.torchvision}"
    if facts.commit != "unknown":
        versions += f", commit {facts.commit[:7]}{' with changes' if facts.dirty == 'true' else ''}"
    if facts.device == "cpu":
        return f"{processor}, no GPU; {facts.workers} worker(s); {versions}"
    gpu = f"{facts.device}, {facts.gpu_memory}, driver {facts.driver}"
    return f"{gpu}, CUDA {facts.cuda}, cuDNN {facts.cudnn}; {processor}; {versions}"


def _processor(facts: Facts) -> str:
    able = f" with {facts.instructions}" if facts.instructions else ""
    return f"{facts.processor}{able}, {facts.cores} cores"


def _instructions() -> str:
    found = [instructions(torch.device("cpu"))]
    with suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text().split()
        found += [name for name in ("avx512_bf16", "amx_bf16", "bf16") if name in flags][:1]
    return " and ".join(found)


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, check=True, capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.partition("\n")[0].strip() or "unknown"
