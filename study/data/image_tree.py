"""Puts the entries of a folder or an archive together to images: `train/<class>/…`, `test/<class>/…` and, if there is
a validation folder beside them, that one's."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cifar_ablations.ablations.files import parse_toml
from cifar_ablations.study.data.decoding import Decoder
from cifar_ablations.study.data.images import (
    LAYOUT,
    MOST_ENTRIES,
    MOST_FAULTS,
    SIDE,
    SPLITS,
    DataError,
    Entry,
    FaultError,
    Images,
    first_of,
    is_text,
    reason,
    refuse,
    shown,
)

ABOUT = "dataset.toml"
"""Beside train/ and test/ or further out, what the images do not tell: `mirror_safe = false` where a mirrored image
would be of another class, as with digits and letters."""
VALIDATION = ("val", "valid", "validation", "dev", "eval")
"""What people call a validation split, in any case of the letters; of several the first is used."""
OTHERWISE = {"train": ("train", "training"), "test": ("test", "testing", *VALIDATION)}
"""What people call the two splits; in any case of the letters."""
ALL_NAMES = {name for names in OTHERWISE.values() for name in names}


@dataclass
class _Tree:
    """The images below one pair of train/ and test/, or below one validation folder."""

    decoded: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=lambda: {split: {} for split in SPLITS})
    """Pixels by split, class and file."""
    spelled: dict[tuple[str, str], str] = field(default_factory=dict)
    """The name of a class as the file system has it."""
    faults: list[tuple[str, FaultError]] = field(default_factory=list)


def assemble(source: str, entries: Iterable[Entry], image_size: int | None = None, place: Path | None = None) -> Images:
    """Decode every image below train/, test/ and a validation folder and put them in order; others are left alone.

    Of several trees the outermost counts. place: the folder that the entries' paths begin in, for commands to type.
    Raises DataError, which names all that cannot be used, or the first ten and how many more.
    """
    decoder = Decoder(image_size)
    trees: dict[tuple[str, ...], _Tree] = {}
    asides: dict[tuple[str, ...], _Tree] = {}
    abouts: list[tuple[tuple[str, ...], bytes]] = []
    others: dict[tuple[str, ...], set[str]] = {}
    for count, entry in enumerate(entries):
        if count == MOST_ENTRIES:
            raise DataError(f"{source} holds more than {MOST_ENTRIES:,} files and folders; give it in smaller parts.")
        parts = entry.parts
        depth = next((i for i, part in enumerate(parts) if part in SPLITS), len(parts))
        if depth < len(parts) - (entry.read is not None):
            _take(trees.setdefault(parts[:depth], _Tree()), entry, parts[depth:], decoder)
        elif parts and is_about(parts[-1]) and entry.read is not None:
            abouts.append((parts, _read(entry, source)))
            continue
        # A class of validation images may be called train, and an outer folder dev: which it is shows at the end.
        for at in range(min(depth, len(parts) - (entry.read is not None))):
            if parts[at].lower() in ALL_NAMES:
                others.setdefault(parts[:at], set()).add(parts[at])
            if parts[at].lower() in VALIDATION and (depth == len(parts) or len(parts) <= at + 3):
                _take(asides.setdefault(parts[: at + 1], _Tree()), entry, parts[at:], decoder)
        if depth < len(parts) and len(trees.get(parts[:depth], _Tree()).faults) >= MOST_FAULTS:
            refuse(source, trees[parts[:depth]].faults)
    tops = [top for top in trees if len(top) == min(map(len, trees))] or sorted(others, key=len)[:1]
    if len(tops) > 1:
        where = first_of(sorted("/".join([*map(shown, top), "train"]) for top in tops))
        raise DataError(f"{source} holds train and test in several places ({where}); keep one copy of {LAYOUT}.")
    top = tops[0] if tops else ()
    tree, beside = trees.get(top, _Tree()), sorted(others.get(top, ()))
    mirror_safe = _mirror_safe(source, [(parts, text) for parts, text in abouts if parts[:-1] == top[: len(parts) - 1]])
    known = tree.decoded["train"].keys()
    named = sorted((name for name in beside if name.lower() in VALIDATION), key=lambda n: VALIDATION.index(n.lower()))
    used = next((name for name in named if _counts(asides.get((*top, name), _Tree()), name, known)), "")
    aside = asides[*top, used] if used else _Tree()
    refuse(source, [*tree.faults, *aside.faults])
    classes = _classes(source, tree.decoded, _renaming(tree, beside, place and place.joinpath(*top)))
    validation = _validation(source, aside.decoded[used], used, classes) if used else None
    instead = f"validation images are those of {shown(used)}" if used else "it holds images of none of the classes"
    notes = [f"{shown(name)} is not used: {instead}." for name in named if name != used]
    if validation:
        notes = [*_own(validation[1], classes, shown(used)), *notes]
    return Images(
        classes,
        *interleaved(tree.decoded["train"]),
        *interleaved(tree.decoded["test"]),
        mirror_safe,
        decoder.resized(),
        (*decoder.notes(), *notes),
        *(validation or ()),
    )


def _counts(aside: _Tree, name: str, classes: Container[str]) -> bool:
    """Whether a folder named as one of validation images is one: it holds images of the classes, or cannot be opened.

    Another folder may be called dev, and val may be empty.
    """
    found = {label: files for label, files in aside.decoded.get(name, {}).items() if label in classes}
    return any(found.values()) or any(found or "/" not in where for where, _ in aside.faults)


def _validation(
    source: str, decoded: dict[str, dict[str, bytes]], name: str, classes: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """The images of a validation folder with their labels. Raises DataError for classes that are not trained on."""
    if others := sorted(decoded.keys() - set(classes)):
        lacks = first_of([f"{shown(name)}/{shown(label)} but no train/{shown(label)}" for label in others])
        raise DataError(f"{source} has {lacks}; rename or remove it.")
    return interleaved({label: decoded.get(label, {}) for label in classes})


def _own(labels: np.ndarray, classes: tuple[str, ...], name: str) -> list[str]:
    """What a reader must know about validation images that the source brings, a sentence each."""
    said = [
        f"The validation images are the {len(labels):,} of {name}, and none is held out of train: each run looks at "
        "the same ones, at most as many as budget.validation_images says."
    ]
    if missing := [shown(label) for i, label in enumerate(classes) if i not in labels]:
        said.append(
            f"{name} has no images of {'a class' if len(missing) == 1 else 'some classes'}: {first_of(missing)}."
        )
    return said


def is_about(name: str) -> bool:
    """Whether a file has the name of a declaration, or one that was meant for it."""
    return name.lower() in (ABOUT, f"{ABOUT}.txt")


def _read(entry: Entry, source: str) -> bytes:
    assert entry.read is not None
    try:
        return entry.read()
    except FaultError as fault:
        raise DataError(f"{shown(entry.parts[-1])} in {source} {fault.what}; {fault.advice}.") from fault


def _take(tree: _Tree, entry: Entry, parts: tuple[str, ...], decoder: Decoder) -> None:
    """Add an entry below a split to its tree, or to the tree's faults."""
    split, *inside = parts
    where = "/".join(map(shown, parts))
    try:
        if entry.fault:
            raise entry.fault
        if entry.read is None and len(inside) != 1:
            return
        if entry.read is not None and (len(inside) != 2 or ".." in inside):
            raise FaultError(f"does not stand where an image should ({split}/<class>/…)", "move or remove it")
        classes = tree.decoded.setdefault(split, {})
        label = unicodedata.normalize("NFC", inside[0])
        if tree.spelled.setdefault((split, label), inside[0]) != inside[0]:
            raise FaultError(
                f"is of a class that {split} has twice, in two forms of Unicode", "put the two folders together"
            )
        known = label in classes
        images = classes.setdefault(label, {})
        if not is_text(label):
            if not known:  # once for a class
                raise FaultError("has a name that is not UTF-8", "rename the class")
        elif entry.read is not None:
            images[inside[1]] = decoder.decode(entry.read())
    except FaultError as fault:
        tree.faults.append((where, fault))


def _mirror_safe(source: str, abouts: list[tuple[tuple[str, ...], bytes]]) -> bool:
    """What the declarations say; True where there is none. Raises DataError for one that is wrong, and for two."""
    for parts, _ in abouts:
        if parts[-1].lower() != ABOUT:
            raise DataError(f"{shown(parts[-1])} in {source} is not read under this name; call it {ABOUT}.")
    if len(abouts) > 1:
        names = " and ".join("/".join(map(shown, parts)) for parts, _ in abouts)
        raise DataError(f"{source} holds {names}; keep one.")
    for parts, content in abouts:
        where = f"{shown(parts[-1])} in {source}"
        try:
            about = parse_toml(content)
        except ValueError as error:
            raise DataError(f"{where} is not TOML ({reason(error)}); correct or remove it.") from error
        known = about.pop("mirror_safe", True)
        if about or not isinstance(known, bool):
            raise DataError(f"{where} may hold mirror_safe = true or false, and nothing else; correct it.")
        return known
    return True


def _renaming(tree: _Tree, beside: list[str], root: Path | None) -> str:
    """What to type, or to do, where a missing split has another name; empty where nothing looks like it."""
    said = []
    for split in SPLITS:
        like = [name for name in beside if name.lower() in OTHERWISE[split]]
        if tree.decoded[split] or not like:
            continue
        if root is None:
            said.append(f"It has {shown(like[0])}/: to take that, unpack it and call the folder {split}.")
        else:
            old, new = (shlex.quote(str(root / name)) for name in (like[0], split))
            said.append(f"It has {shown(like[0])}/: to take that, mv {old} {new}")
    return "".join(f" {line}" for line in said)


def _classes(source: str, decoded: dict[str, dict[str, dict[str, bytes]]], renaming: str) -> tuple[str, ...]:
    """The class names, sorted. Raises DataError unless train and test both hold images of each."""
    for split in SPLITS:
        if not decoded[split]:
            raise DataError(f"{source} holds no {split}/<class>/… images; it needs {LAYOUT}.{renaming}")
    train, test = (set(decoded[split]) for split in SPLITS)
    missing = [(name, *(SPLITS if name in train else SPLITS[::-1])) for name in sorted(train ^ test)]
    if missing:
        alike = {_alike(name) for name in train - test} & {_alike(name) for name in test - train}
        hint = " Some differ in capitals or spaces alone; rename those." if alike else ""
        lacks = first_of([f"{has}/{shown(name)} but no {lack}/{shown(name)}" for name, has, lack in missing])
        raise DataError(f"{source} has {lacks}; every class needs images in both.{hint}")
    empty = [
        f"{split}/{shown(name)}" for split in SPLITS for name, files in sorted(decoded[split].items()) if not files
    ]
    if empty:
        holds = "holds no image" if len(empty) == 1 else "hold no image"
        raise DataError(f"{first_of(empty)} in {source} {holds}; add some or remove the class from both.")
    if len(train) < 2:
        raise DataError(f"{source} holds one class only, {shown(next(iter(train)))}; at least two are needed.")
    return tuple(sorted(train))


def _alike(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def interleaved(classes: dict[str, dict[str, bytes]]) -> tuple[np.ndarray, np.ndarray]:
    """The first image of each class, then the second of each, …: any prefix is balanced as far as the counts allow."""
    keys = sorted(
        (rank, label, name, file)
        for label, name in enumerate(sorted(classes))
        for rank, file in enumerate(sorted(classes[name]))
    )
    pixels = b"".join(classes[name][file] for _, _, name, file in keys)
    images = np.frombuffer(pixels, np.uint8).reshape(-1, SIDE, SIDE, 3)
    return images, np.array([label for _, label, _, _ in keys], np.int64)
