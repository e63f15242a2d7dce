"""Times the forms that a fleet's layers can take: forward and backward of K members, layer by layer.

`python -m benchmarks.kernels`. The contenders for the network's four convolutions and its hidden layer:

- *one after another*: K ordinary layers, each on its own images; captured as one CUDA graph on a GPU.
- *branches*: the same on several CUDA streams, parallel branches of the graph (on a GPU only).
- *grouped*: one convolution of K groups over the members' channels side by side.
- *vmap*: `torch.func.vmap` over the members.
- *unfolded*: the batches as columns of patches, and one batched matrix product for all members.
- *batched*: one `bmm` over the members (the hidden layer only).

All compute the same function, which is checked before it is timed. A form that ends in an error says so in its cell.
Without a GPU the table is of the CPU, and says so. `make bench` on a GPU measures this too, last.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.deadline import Deadline
from benchmarks.results import RESULTS, Facts, described, facts, machine, record
from cifar_ablations.study.training.step import BRANCHES, tune

CONVOLUTIONS = ((3, 64, 32), (64, 128, 16), (128, 256, 8), (256, 256, 4))
HIDDEN = (1024, 512)
LONGEST = 3.0
"""Seconds after which a form is not timed again: some take a hundred times longer than others."""

Form = Callable[[Tensor, Tensor], Tensor | list[Tensor]]
"""A layer of K members: from inputs [K, B, …] and weights [K, …] to outputs [K, B, …], or a list of K of them."""


@dataclass(frozen=True)
class Layer:
    """Inputs and weights of one layer of K members: images [K, B, C, H, W] or activations [K, B, C]."""

    name: str
    inputs: Tensor
    weights: Tensor
    flop: float
    """Of forward and backward together."""


def layers(members: int, batch: int, dtype: torch.dtype, device: torch.device) -> Iterator[Layer]:
    """The notebook network's layers at a fleet size."""
    torch.manual_seed(0)
    for before, after, side in CONVOLUTIONS:
        images = torch.randn(members * batch, before, side, side, dtype=dtype, device=device)
        images = images.contiguous(memory_format=torch.channels_last).view(members, batch, before, side, side)
        weights = torch.randn(members, after, before, 3, 3, dtype=dtype, device=device) / (9 * before) ** 0.5
        passes = 2 if before == 3 else 3  # nobody needs the gradient of the images
        flop = passes * 2.0 * members * batch * side * side * 9 * before * after
        yield Layer(f"conv {before}→{after} at {side}×{side}", images, weights, flop)
    before, after = HIDDEN
    activations = torch.randn(members, batch, before, dtype=dtype, device=device)
    weights = torch.randn(members, after, before, dtype=dtype, device=device) / before**0.5
    yield Layer(f"linear {before}→{after}", activations, weights, 3 * 2.0 * members * batch * before * after)


def one_after_another(x: Tensor, w: Tensor) -> list[Tensor]:
    """K ordinary layers."""
    layer = F.linear if w.ndim == 3 else _convolution
    return [layer(a, b) for a, b in zip(x, w, strict=True)]


def branches(x: Tensor, w: Tensor) -> list[Tensor]:
    """The same, spread over streams."""
    layer = F.linear if w.ndim == 3 else _convolution
    here = torch.cuda.current_stream()
    streams = [torch.cuda.Stream() for _ in range(min(BRANCHES, len(x)))]
    for stream in streams:
        stream.wait_stream(here)
    outputs = []
    for index, (a, b) in enumerate(zip(x, w, strict=True)):
        with torch.cuda.stream(streams[index % len(streams)]):
            outputs.append(layer(a, b))
    for stream in streams:
        here.wait_stream(stream)
    return outputs


def grouped(x: Tensor, w: Tensor) -> Tensor:
    """One convolution with a group per member."""
    members, batch, channels, side, _ = x.shape
    beside = x.transpose(0, 1).reshape(batch, members * channels, side, side)
    beside = beside.contiguous(memory_format=torch.channels_last)
    out = F.conv2d(beside, w.flatten(0, 1), padding=1, groups=members)
    return out.view(batch, members, -1, side, side).transpose(0, 1)


def vmapped(x: Tensor, w: Tensor) -> Tensor:
    """`torch.func.vmap` of the ordinary layer."""
    return torch.func.vmap(F.linear if w.ndim == 3 else _convolution)(x, w)


def unfolded(x: Tensor, w: Tensor) -> Tensor:
    """Patches times weights, as one batched product."""
    members, batch, channels, side, _ = x.shape
    patches = F.unfold(x.flatten(0, 1), 3, padding=1)  # [K·B, C·9, H·W]
    patches = patches.view(members, batch, channels * 9, side * side).transpose(2, 3).flatten(1, 2)
    out = torch.bmm(patches, w.flatten(2).transpose(1, 2))
    return out.view(members, batch, side, side, -1).permute(0, 1, 4, 2, 3)


def batched(x: Tensor, w: Tensor) -> Tensor:
    """One `bmm` over the members."""
    return torch.bmm(x, w.transpose(1, 2))


def _convolution(x: Tensor, w: Tensor) -> Tensor:
    return F.conv2d(x, w, padding=1)


def seconds(form: Form, layer: Layer, repeats: int) -> float:
    """Median time of forward and backward over up to so many repeats, captured as a graph on a GPU."""
    needs_images = layer.inputs.shape[2] != 3
    x = layer.inputs.clone().requires_grad_(needs_images)
    w = layer.weights.clone().requires_grad_()
    wanted = (x, w) if needs_images else (w,)

    outputs = form(x, w)
    gradients = [torch.randn_like(o) for o in outputs] if isinstance(outputs, list) else torch.randn_like(outputs)
    del outputs

    def work() -> None:
        torch.autograd.grad(form(x, w), wanted, gradients)

    on_gpu = x.device.type == "cuda"
    if on_gpu:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                work()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        run: Callable[[], None] = graph.replay
    else:
        run = work
    run()  # also warms up a graph, which the first replay brings to the GPU
    if on_gpu:
        torch.cuda.synchronize()
    taken: list[float] = []
    times = 10 if on_gpu else 1
    while len(taken) < repeats and times * sum(taken) < LONGEST:
        began = time.perf_counter()
        for _ in range(times):
            run()
        if on_gpu:
            torch.cuda.synchronize()
        taken.append((time.perf_counter() - began) / times)
    return statistics.median(taken)


def forms_on(device: torch.device) -> dict[str, Form]:
    """The contenders on a device, by name."""
    forms: dict[str, Form] = {"one after another": one_after_another}
    if device.type == "cuda":
        forms["branches"] = branches
    return forms | {"grouped": grouped, "vmap": vmapped, "unfolded": unfolded, "batched": batched}


def applies(form: Form, layer: Layer) -> bool:
    """Whether a form is one of a convolution's, or of a linear layer's."""
    convolution = layer.weights.ndim == 5
    return form is not batched if convolution else form not in (grouped, unfolded)


def check(form: Form, layer: Layer) -> None:
    """Raise AssertionError unless a form computes what the ordinary layers do."""
    tolerance = 3e-2 if layer.inputs.dtype == torch.bfloat16 else 1e-3
    with torch.no_grad():
        out = form(layer.inputs, layer.weights)
        reference = torch.stack(one_after_another(layer.inputs, layer.weights))
        torch.testing.assert_close(
            torch.stack(out) if isinstance(out, list) else out, reference, rtol=tolerance, atol=tolerance
        )


def cell(form: Form, layer: Layer, repeats: int) -> tuple[str, float | None]:
    """A form's cell of the table, and its seconds; None where it ended in an error or does not apply."""
    if not applies(form, layer):
        return "", None
    try:
        check(form, layer)
        took = seconds(form, layer, repeats)
    except Exception as error:  # out of memory, or no kernel for it: the other forms are still to come
        if layer.inputs.device.type == "cuda":
            torch.cuda.empty_cache()
        return f"failed: {type(error).__name__}", None
    return f"{1000 * took:.3g} ms, {layer.flop / took / 1e12:.3g} TFLOP/s", took


def measured(
    device: torch.device,
    about: Facts,
    end: Deadline,
    members: Sequence[int] = (),
    batch: int | None = None,
    repeats: int = 7,
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The section and its figures as they grow, layer by layer; ends with what the deadline left out.

    members: fleet sizes [default: 8 and 16 on a GPU, 4 without]; batch: images per member [default: 256 or 32].
    """
    on_gpu = device.type == "cuda"
    tune(device)
    threads = torch.get_num_threads()
    if not on_gpu:
        torch.set_num_threads(1)
    forms = forms_on(device)
    batch = batch or (256 if on_gpu else 32)
    place = "CUDA graphs" if on_gpu else "one thread, no GPU found"
    lines = [
        f"Forward and backward of all members, batch {batch} each, median of up to {repeats}; {place}; "
        f"{described(about)}.\n",
        "| members | layer | arithmetic | " + " | ".join(forms) + " |",
        "|---" * (len(forms) + 3) + "|",
    ]
    figures: list[dict[str, Any]] = []
    left_out = []
    try:
        for dtype in (torch.bfloat16, torch.float32) if on_gpu else (torch.float32,):
            arithmetic = str(dtype).removeprefix("torch.")
            for size in members or ([8, 16] if on_gpu else [4]):
                if end.left <= 0:
                    left_out.append(f"{size} members in {arithmetic}")
                    continue
                for layer in layers(size, batch, dtype, device):
                    if end.left <= 0:
                        left_out.append(f"{layer.name} of {size} members in {arithmetic}")
                        continue
                    cells = {name: cell(form, layer, repeats) for name, form in forms.items()}
                    texts = " | ".join(text for text, _ in cells.values())
                    lines.append(f"| {size} | {layer.name} | {arithmetic} | {texts} |")
                    times = {name: took for name, (_, took) in cells.items()}
                    figures.append({"members": size, "layer": layer.name, "arithmetic": arithmetic, "seconds": times})
                    print(lines[-1], flush=True)
                    yield "\n".join(lines), figures
    finally:
        torch.set_num_threads(threads)
    if left_out:
        yield "\n".join([*lines, f"\n- Left out for want of time: {', '.join(left_out)}."]), figures


def main() -> None:
    """Check, time and print every form of every layer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", help="fleet sizes [default: 8 and 16 on a GPU, 4 without]")
    parser.add_argument("--batch", type=int, help="images per member [default: 256 on a GPU, 32 without]")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--minutes", type=float, help="to end within [default: no limit]")
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        print("No GPU was found: these are figures of the CPU, in one thread, and say nothing about a GPU.\n")
    about, end = facts(device, 1), Deadline.after(arguments.minutes)
    for text, _ in measured(device, about, end, arguments.members or (), arguments.batch, arguments.repeats):
        record(RESULTS, f"Kernels: {machine(about)}", text)
    print(f"\nWritten to {RESULTS}")


if __name__ == "__main__":
    main()
