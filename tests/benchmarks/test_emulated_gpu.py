"""The played GPU notices what would go wrong on a real one."""

from __future__ import annotations

import pytest
import torch

from benchmarks.emulated_gpu import EmulatedGpu, ForbiddenError


def test_a_replay_does_what_was_captured_on_the_same_tensors() -> None:
    x, total = torch.ones(3), torch.zeros(3)
    with EmulatedGpu() as gpu:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = x * 2
            total += y.view(3)[:2].sum()
        assert total.tolist() == [0, 0, 0], "a capture does nothing"
        x.fill_(5)
        graph.replay()
        graph.replay()
    assert total.tolist() == [40, 40, 40]
    assert y.tolist() == [10, 10, 10]
    assert (gpu.captures, gpu.replays, gpu.races) == (1, 2, [])


def test_a_capture_leaves_the_running_statistics_of_a_batch_normalisation_alone() -> None:
    layer, x = torch.nn.BatchNorm2d(2, momentum=0.5), torch.full((1, 2, 2, 2), 8.0)
    with EmulatedGpu():
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            layer(x)
        assert layer.running_mean is not None
        assert layer.running_mean.tolist() == [0, 0]
        graph.replay()
    assert layer.running_mean.tolist() == [4, 4]
    assert layer.num_batches_tracked == 1


def test_what_python_counts_stands_still_in_a_replay() -> None:
    total, steps = torch.zeros(1), 0
    with EmulatedGpu():
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            steps += 1
            total += steps
        for _ in range(3):
            graph.replay()
    assert total.item() == 3
    assert steps == 1


@pytest.mark.parametrize("joined", [True, False])
def test_a_stream_that_is_not_waited_for_is_a_race(joined: bool) -> None:
    x = torch.zeros(4)
    with EmulatedGpu() as gpu:
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            x[:2].fill_(1)
        x[2:].fill_(2)  # other bytes of the same storage
        assert not gpu.races
        if joined:
            here.wait_stream(aside)
        x.sum()
    assert bool(gpu.races) == (not joined)


def test_writing_over_what_is_still_read_is_a_race() -> None:
    x = torch.zeros(4)
    with EmulatedGpu() as gpu:
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            x.sum()
        x.fill_(1)
    assert gpu.races == ["fill_ on stream 0 and sum on stream 9"]


@pytest.mark.parametrize(
    "act", [lambda x: x.sum().item(), lambda x: x.nonzero(), lambda x: torch.tensor([1.0]), lambda x: torch.rand(2)]
)
def test_what_waits_for_the_host_cannot_be_captured(act) -> None:
    x = torch.ones(3)
    with EmulatedGpu(), pytest.raises(ForbiddenError, match="not permitted"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        act(x)


def test_a_branch_that_is_never_joined_cannot_be_captured() -> None:
    x = torch.ones(3)

    def capture() -> None:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                x.add_(1)

    with EmulatedGpu(), pytest.raises(ForbiddenError, match="unjoined"):
        capture()
