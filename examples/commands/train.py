"""A small network on drawn digits, in plain PyTorch: a program that knows nothing of ablate.

It takes what is varied as options, and writes its numbers to the file that --metrics names.
"""

import argparse
import json

import torch
from torch import Tensor, nn

SHAPES = [
    *("111101101101111", "010110010010111", "111001111100111", "111001111001111", "101101111001001"),
    *("111100111001111", "111100111101111", "111001010010010", "111101111101111", "111101111001111"),
]
"""The ten digits in 5 rows of 3 pixels."""


def draw(images: int, noise: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Digits somewhere in 7 by 5 pixels, under noise: float [images, 35], and which they are, int64 [images]."""
    shapes = torch.tensor([[int(pixel) for pixel in shape] for shape in SHAPES]).view(10, 5, 3).float()
    margins = [(left, 2 - left, top, 2 - top) for top in range(3) for left in range(3)]
    placed = torch.stack([nn.functional.pad(shapes, margin) for margin in margins])
    labels = torch.randint(10, (images,), generator=generator)
    places = torch.randint(9, (images,), generator=generator)
    pictures = placed[places, labels] + noise * torch.randn(images, 7, 5, generator=generator)
    return pictures.flatten(1), labels


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--metrics", required=True)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=1_000)
    asked = parser.parse_args()

    torch.manual_seed(asked.seed)  # first weights, the order of images, dropout
    torch.set_num_threads(1)
    train, train_labels = draw(asked.images, 0.35, torch.Generator().manual_seed(asked.seed))
    test, test_labels = draw(2_000, 0.35, torch.Generator().manual_seed(1_000_000))  # the same for every run
    network = nn.Sequential(nn.Linear(35, 128), nn.ReLU(), nn.Dropout(asked.dropout), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(network.parameters(), lr=asked.rate, weight_decay=asked.weight_decay)
    for epoch in range(asked.epochs):
        for batch in torch.randperm(asked.images).split(100):
            loss = nn.functional.cross_entropy(network(train[batch]), train_labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")

    network.eval()
    with torch.no_grad():
        sets = ((test, test_labels), (train, train_labels))
        right = [(network(images).argmax(1) == labels).float().mean().item() for images, labels in sets]
    with open(asked.metrics, "w") as file:
        json.dump({"accuracy": right[0], "train/accuracy": right[1], "loss": loss.item()}, file)


if __name__ == "__main__":
    main()
