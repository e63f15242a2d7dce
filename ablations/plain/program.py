"""Writes a recipe as one plain PyTorch and torchvision program: what is trained, as a person would write it.

Only what the recipe switches on is in it. The network comes from `networks`, the optimizer from the recipe's update
rule, and what else a technique is from its own `plain`; one that has no plain form is refused.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import fields, replace

from cifar_ablations.ablations.budget import Budget
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plain.networks import network
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.technique import Plain, Technique, overrides
from cifar_ablations.ablations.update_rule import UpdateRule

WIDTH = 88
"""Of a line. What is longer is broken after every argument, with a comma at the end: so no formatter changes it,
whatever its own width."""

NORMALISED = ("v2.ToDtype(torch.float32, scale=True)", "v2.Normalize(mean, std)")
"""The scaling of images where no technique has another."""


def program(
    recipe: Recipe, seed: int = 0, called: str = "the notebook's recipe", command: str = "ablate script"
) -> str:
    """The program that trains a recipe, whose precision is decided, on CIFAR-10 or on images in a folder.

    seed: what the program takes where it is given none; called, command: what it says of its recipe and its origin.
    Raises AblateError, which names technique and setting, for what has no plain form.
    """
    plain, rule, (model, budget) = _gathered(recipe), recipe.update_rule(), recipe.sized
    optimizer, arguments, decay = _optimizer(recipe, rule, plain.rate)
    assert budget.precision != "auto", "decided for the device before a program is written"
    parts = [
        *network(model, plain.activation, plain.normalise, plain.dropout, budget.precision),
        *plain.definitions,
        OPEN,
        *([] if plain.scaling else [STATISTICS]),
        _load(plain, budget),
        _make_optimizer(optimizer, arguments, plain.scheduler),
        _train_epoch(plain, rule.max_norm, decay),
        EVALUATE,
        _main(plain, budget, seed),
    ]
    constants = _constants(recipe, steps=any("STEPS" in part for part in parts))
    body = "\n\n\n".join(part.strip("\n") for part in (constants, *parts, CALL))
    documentation = _documentation(recipe, called, command)
    return f"{documentation}\n\n{_imports(body, plain.imports)}\n\n{body}\n"


def _gathered(recipe: Recipe) -> Plain:
    """The pieces of all techniques that are on. Raises AblateError where two want one place."""
    total, owners = Plain(), dict[str, Technique]()
    for technique in recipe.techniques:
        if technique.is_off:
            continue
        pieces = technique.plain(recipe.sized)
        for piece in fields(Plain):
            before, new = getattr(total, piece.name), getattr(pieces, piece.name)
            if new == piece.default:
                continue
            if isinstance(new, tuple):
                new = (*before, *new)
            elif before and not isinstance(new, bool):
                raise technique.not_plain(f"{owners[piece.name].setting} has another {piece.name} already")
            owners[piece.name] = technique
            total = replace(total, **{piece.name: new})
    return total


def _optimizer(recipe: Recipe, rule: UpdateRule, factors: Iterable[str]) -> tuple[str, list[str], str]:
    """A class of torch.optim that steps as the rule says, its arguments, and the decay of weights that it leaves out.

    Raises AblateError, which names the techniques that shape the rule, where there is none.
    """
    rate = " * ".join([str(rule.rate), *factors])
    # torch adds up gradients, so that their weight is one of the whole step.
    weight = f"(1 - {rule.first_decay})" if rule.first_gain == 1 - rule.first_decay else str(rule.first_gain)
    coupled = [f"weight_decay={rule.coupled_decay}"] if rule.coupled_decay else []
    options = []
    if not rule.adaptive:
        if rule.first_gain != 1:
            rate += f" * {weight}"
        if rule.first_decay:
            options += [f"momentum={rule.first_decay}"] + ["nesterov=True"] * rule.nesterov
        name = "SGD"
    elif rule.correct_bias and rule.first_gain == 1 - rule.first_decay and not rule.nesterov:
        name = "AdamW" if rule.decoupled_decay and not coupled else "Adam"
        if (rule.first_decay, rule.second_decay) != (0.9, 0.999):
            options.append(f"betas=({rule.first_decay}, {rule.second_decay})")
    elif not rule.correct_bias and (rule.first_decay, rule.first_gain) == (0, 1) and not rule.nesterov:
        name = "RMSprop"
        options += [f"alpha={rule.second_decay}"]
    else:
        name = ""
    if not name or (coupled and rule.decoupled_decay):
        shaping = [t.setting for t in recipe.techniques if overrides(t, "update") and not t.is_off]
        names = " and ".join([", ".join(shaping[:-1]), *shaping[-1:]] if shaping[1:] else shaping)
        raise AblateError(f"{names} have no plain form together: torch.optim has no such update rule.")
    if rule.adaptive and rule.epsilon != 1e-8:
        options.append(f"eps={rule.epsilon}")
    decay = ""
    if rule.decoupled_decay and name == "AdamW":
        options.append(f"weight_decay={rule.decoupled_decay}")
    elif rule.decoupled_decay:
        decay = str(rule.decoupled_decay) + (f" / {weight}" if rule.first_gain != 1 else "")
    return name, ["model.parameters()", f"lr={rate}", *options, *coupled], decay


def _documentation(recipe: Recipe, called: str, command: str) -> str:
    on = ", ".join(t.setting_title for t in recipe.techniques if not t.is_off)
    model, budget = recipe.sized
    paragraphs = (
        f"Train {called}.",
        f"Recipe {recipe.digest()}: {model}, {budget}. On: {on or 'nothing'}.",
        "",
        "FOLDER holds train/<class>/ and test/<class>/ with images of 32 by 32 pixels; without one, CIFAR-10 is "
        "downloaded to data/. Validation images are held out of train/. The last line is the result, as JSON. Written "
        f"by `{command}`.",
    )
    filler = textwrap.TextWrapper(WIDTH - 3, break_long_words=False, break_on_hyphens=False)
    filled = [filler.fill(_as_text(part)) for part in paragraphs]
    filled[2] = "    python train.py [--data FOLDER] [--seed N]"
    return '"""' + "\n\n".join(filled) + '\n"""'


def _as_text(text: str) -> str:
    """A sentence as it stands in a docstring; file names may hold any sign."""
    written = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
    return written.replace("\\", "\\\\").replace('"', "'")


KNOWN_IMPORTS = (
    ("argparse", "import argparse"),
    ("copy", "import copy"),
    ("json", "import json"),
    ("math", "import math"),
    ("torch", "import torch"),
    ("nn", "from torch import nn"),
    ("lr_scheduler", "from torch.optim import lr_scheduler"),
    ("DataLoader", "from torch.utils.data import DataLoader, Subset"),
    ("datasets", "from torchvision import datasets"),
    ("v2", "from torchvision.transforms import v2"),
)


def _imports(body: str, more: Iterable[str]) -> str:
    """Lines that import what the body uses, in the order of isort: the standard library's, then others'."""
    lines = {line for name, line in KNOWN_IMPORTS if re.search(rf"(?<![.\w]){name}\b[.(]", body)} | set(more)
    own = {line for line in lines if line.split()[1].partition(".")[0] in sys.stdlib_module_names}
    groups = (sorted(group, key=_isort) for group in (own, lines - own))
    return "\n\n".join("\n".join(group) for group in groups if group)


def _isort(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line.split()[1].lower()


OTHER_DRAWS = "# A seed gives other draws than in the suite, which has generators of its own."
OTHER_ARITHMETIC = "# On a GPU, torch may take TF32 within fp32 convolutions; the suite does not."


def _constants(recipe: Recipe, *, steps: bool) -> str:
    budget = recipe.sized.budget
    lines = [
        OTHER_DRAWS,
        *([OTHER_ARITHMETIC] if budget.precision == "fp32" else []),
        f'RECIPE = "{recipe.digest()}"',
        f"EPOCHS = {budget.epochs:_}",
        f"BATCH_SIZE = {budget.batch_size:_}",
        f"TRAIN_IMAGES = {budget.train_images:_}",
    ]
    if budget.validation_images:
        lines.append(f"VALIDATION_IMAGES = {budget.validation_images:_}")
    if budget.test_images != Budget().test_images:
        lines.append(f"TEST_IMAGES = {budget.test_images:_}")
    if steps:
        lines.append("STEPS = EPOCHS * math.ceil(TRAIN_IMAGES / BATCH_SIZE)")
    return "\n".join(lines)


OPEN = '''
def open_images(folder, split, transform):
    """The images of a folder or of CIFAR-10; split: train or test."""
    if folder is None:
        return datasets.CIFAR10("data", split == "train", transform, download=True)
    return datasets.ImageFolder(f"{folder}/{split}", transform)
'''

STATISTICS = '''
def channel_statistics(folder):
    """Mean and standard deviation of each channel of the training images, in [0, 1]."""
    images = open_images(folder, "train", v2.PILToTensor())
    pixels = torch.stack([image for image, _ in images]) / 255
    std, mean = torch.std_mean(pixels, dim=(0, 2, 3), correction=0)
    return mean.round(decimals=4).tolist(), std.round(decimals=4).tolist()
'''


def _load(plain: Plain, budget: Budget) -> str:
    validation, few = bool(budget.validation_images), budget.test_images != Budget().test_images
    scaling = plain.scaling or NORMALISED
    augment = ["*augment"] if plain.transforms else []
    chosen = "chosen" if plain.arrangement else "order[:TRAIN_IMAGES]"
    shuffle = ", shuffle=True" if plain.shuffled else ""
    needed = "TRAIN_IMAGES + VALIDATION_IMAGES" if validation else "TRAIN_IMAGES"
    loaders = ["train", *(["validation"] if validation else []), "test", "len(train_set.classes)"]
    lines = [
        "def load(folder):",
        f'    """Batches of training{", validation" if validation else ""} and test images; the number of classes."""',
        *([] if plain.scaling else ["    mean, std = channel_statistics(folder)"]),
        *_listed("augment", plain.transforms),
        *_listed("scale", scaling),
        f"    changed = v2.Compose([{', '.join(['v2.PILToTensor()', *augment, '*scale'])}])" if augment else None,
        "    plain = v2.Compose([v2.PILToTensor(), *scale])",
        f'    train_set = open_images(folder, "train", {"changed" if augment else "plain"})',
        '    test_set = open_images(folder, "test", plain)',
        f"    if len(train_set) < {needed}:",
        '        raise SystemExit(f"{len(train_set)} training images are too few")',
        "    # The suite too splits anew for every seed, by a permutation of its own.",
        "    order = torch.randperm(len(train_set)).tolist()",
        "    chosen = order[:TRAIN_IMAGES]" if plain.arrangement else None,
        *(f"    {statement}" for statement in plain.arrangement),
        '    options = {"batch_size": BATCH_SIZE, "num_workers": 2, "persistent_workers": True}',
        f"    train = DataLoader(Subset(train_set, {chosen}){shuffle}, **options)",
    ]
    if validation:
        lines += [
            '    held_out = Subset(open_images(folder, "train", plain), order[-VALIDATION_IMAGES:])',
            "    validation = DataLoader(held_out, **options)",
        ]
    if few:
        lines += [
            "    # Some of the test images: the same for every seed, though not those of the suite.",
            "    drawn = torch.randperm(len(test_set), generator=torch.Generator().manual_seed(0))",
            "    test = DataLoader(Subset(test_set, drawn[:TEST_IMAGES].tolist()), **options)",
        ]
    else:
        lines.append("    test = DataLoader(test_set, **options)")
    return _joined([*lines, f"    return {', '.join(loaders)}"])


def _make_optimizer(name: str, arguments: Iterable[str], scheduler: str) -> str:
    made = f"torch.optim.{name}({', '.join(arguments)})"
    lines = ["def make_optimizer(model):"]
    if not scheduler:
        lines += ['    """What takes the steps."""', *_broken("    return ", made)]
        return _joined(lines)
    lines += ['    """What takes the steps, and what changes its learning rate."""']
    lines += [*_broken("    optimizer = ", made), *_broken("    scheduler = ", scheduler)]
    return _joined([*lines, "    return optimizer, scheduler"])


def _train_epoch(plain: Plain, max_norm: float, decay: str) -> str:
    scheduler = ", scheduler" if plain.scheduler else ""
    lines = [
        f"def train_epoch(model, batches, optimizer{scheduler}, device):",
        '    """Take a step on every batch; returns the mean loss."""',
        "    model.train()",
        "    total, count = 0.0, 0",
        "    for images, targets in batches:",
        "        images, targets = images.to(device), targets.to(device)",
    ]
    if plain.mixing:
        lines.append("        targets = nn.functional.one_hot(targets, model.classifier.out_features).float()")
    lines += [f"        images, targets = {mixing}(images, targets)" for mixing in plain.mixing]
    loss = f"nn.functional.cross_entropy({', '.join(['model(images)', 'targets', *plain.loss])})"
    lines += ["        optimizer.zero_grad()", *_broken("        loss = ", loss), "        loss.backward()"]
    if max_norm:
        lines.append(f"        nn.utils.clip_grad_norm_(model.parameters(), max_norm={max_norm})")
    if decay:
        lines += [
            "        for weights in model.parameters():  # decoupled weight decay",
            f'            weights.data.mul_(1 - optimizer.param_groups[0]["lr"] * {decay})',
        ]
    lines.append("        optimizer.step()")
    if scheduler and plain.per_batch:
        lines.append("        scheduler.step()")
    lines += ["        total += loss.item() * len(images)", "        count += len(images)"]
    if scheduler and not plain.per_batch:
        lines.append("    scheduler.step()")
    return _joined([*lines, "    return total / count"])


EVALUATE = '''
@torch.no_grad()
def evaluate(model, batches, device):
    """Mean cross entropy and accuracy."""
    model.eval()
    loss, correct, count = 0.0, 0, 0
    for images, targets in batches:
        logits, targets = model(images.to(device)), targets.to(device)
        loss += nn.functional.cross_entropy(logits, targets, reduction="sum").item()
        correct += (logits.argmax(dim=1) == targets).sum().item()
        count += len(images)
    return loss / count, correct / count
'''


def _main(plain: Plain, budget: Budget, seed: int) -> str:
    validation = bool(budget.validation_images)
    scheduler = ", scheduler" if plain.scheduler else ""
    loaders = ", ".join(["train", *(["validation"] if validation else []), "test", "classes"])
    initialised = f".apply({plain.initialise})" if plain.initialise else ""
    lines = [
        "def main():",
        '    """Train, test, and print the result."""',
        "    parser = argparse.ArgumentParser()",
        '    parser.add_argument("--data", metavar="FOLDER", help="images (default: CIFAR-10)")',
        f'    parser.add_argument("--seed", type=int, default={seed})',
        "    arguments = parser.parse_args()",
        "    torch.manual_seed(arguments.seed)",
        '    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")',
        f"    {loaders} = load(arguments.data)",
        f"    model = Network(classes){initialised}.to(device)",
        f"    optimizer{scheduler} = make_optimizer(model)",
        *(f"    {line}" for line in plain.before),
        "    for epoch in range(1, EPOCHS + 1):",
        f"        loss = train_epoch(model, train, optimizer{scheduler}, device)",
        "        if not math.isfinite(loss):",
        '            raise SystemExit(f"diverged in epoch {epoch}")',
    ]
    if validation:
        lines += [
            "        validation_loss, accuracy = evaluate(model, validation, device)",
            '        losses = f"loss {loss:.4f}, validation loss {validation_loss:.4f}"',
            '        print(f"epoch {epoch}/{EPOCHS}: {losses}, accuracy {accuracy:.2%}", flush=True)',
        ]
    else:
        lines.append('        print(f"epoch {epoch}/{EPOCHS}: loss {loss:.4f}", flush=True)')
    lines += [f"        {line}" for line in plain.after_epoch]
    lines += [f"    {line}" for line in plain.after]
    return _joined(
        [
            *lines,
            "    loss, accuracy = evaluate(model, test, device)",
            '    result = {"test/accuracy": accuracy, "test/loss": loss}',
            '    print(json.dumps({"recipe": RECIPE, "seed": arguments.seed} | result))',
        ]
    )


CALL = """\
if __name__ == "__main__":
    main()"""


def _joined(lines: Iterable[str | None]) -> str:
    return "\n".join(line for line in lines if line is not None)


def _listed(name: str, elements: Iterable[str]) -> list[str]:
    """A list of that name in a function, or nothing for no elements."""
    elements = list(elements)
    line = f"    {name} = [{', '.join(elements)}]"
    if not elements or len(line) <= WIDTH:
        return [line] if elements else []
    return [f"    {name} = [", *(f"        {element}," for element in elements), "    ]"]


def _broken(before: str, call: str) -> list[str]:
    """A call behind the beginning of its line, in one line or, where it is too long, with an argument in each."""
    if len(before + call) <= WIDTH:
        return [before + call]
    found = ast.parse(call, mode="eval").body
    assert isinstance(found, ast.Call), call
    name = ast.get_source_segment(call, found.func)
    indent = " " * (len(before) - len(before.lstrip()))
    words = [f"{indent}    {ast.get_source_segment(call, argument)}," for argument in (*found.args, *found.keywords)]
    return [f"{before}{name}(", *words, f"{indent})"]
