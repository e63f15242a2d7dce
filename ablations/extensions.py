"""Extensions: techniques, plans, searches, metrics and networks of a person's own, in a folder or an installed package.

A folder is named by an option of commands, ABLATE_EXTENSIONS, `[tool.ablate] extensions` of a pyproject.toml, or
`cifar_ablations.use_extension`; a package names itself by an entry point of GROUP. It holds folders called as KINDS,
one thing a file, in the formats of the suite's own. Nothing is ever imported from a folder that nobody named. Files
whose names begin with an underscore are the extension's own business.
"""

from __future__ import annotations

import hashlib
import importlib
import keyword
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import parse_toml, read_named
from cifar_ablations.ablations.naming import did_you_mean, shown

if TYPE_CHECKING:
    from cifar_ablations.ablations.recipe import Recipe

KINDS = ("techniques", "plans", "searches", "metrics", "networks")
TECHNIQUES, PLANS, SEARCHES, METRICS, NETWORKS = KINDS
NOT_TRAINED = (PLANS, SEARCHES, METRICS)
"""What no training depends on."""
GROUP = "cifar_ablations.extensions"
"""The entry points of installed packages; the value of one is a package that is laid out as a folder is."""
VARIABLE = "ABLATE_EXTENSIONS"
"""Names folders, set apart as in PATH."""
PROJECT = "pyproject.toml"
ROOM = "ablate_extensions"
"""What modules of folders are imported below. No folder is added to Python's path."""
HOW = f"name its folder by {VARIABLE}, [tool.ablate] extensions in {PROJECT}, or ca.use_extension(FOLDER)"
"""What to do for something of an extension that is not known; a command has an option for it too."""
BEFORE_DIGEST = " "
BETWEEN = ", "


@dataclass(frozen=True)
class Extension:
    """A folder or a package of a person's own, as it was when it was first looked at."""

    name: str
    package: str
    """What its modules are imported as."""
    folder: Path
    """Of a package that is one file, the file."""
    installed: bool
    digest: str
    """Of its code that trains: `digest_of` the folder."""
    whole: bool = False
    """Whether all of its files count as such, as of a package that is not laid out as an extension is."""

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        return f"the package {self.package}" if self.installed else f"the folder {self.folder}"

    @property
    def code(self) -> str:
        """Its name and its version, as records of trainings have it."""
        return f"{self.name}{BEFORE_DIGEST}{self.digest}"

    def files(self, kind: str) -> dict[str, Path]:
        """Its files of one of KINDS by name. Raises AblateError for a name that no module can have."""
        found = {}
        for path in sorted((self.folder / kind).glob("*.py")):
            if path.name.startswith("_"):
                continue
            if not path.stem.isidentifier() or keyword.iskeyword(path.stem):
                raise AblateError(f"{path}: a file's name must be letters, digits and underscores, not a digit first")
            found[path.stem] = path
        return found

    def module(self, kind: str, name: str) -> ModuleType:
        """One of its files, imported. Raises AblateError, with file, line and error, for one that cannot be."""
        return self.imported(f"{kind}.{name}")

    def imported(self, name: str) -> ModuleType:
        """A module of it, by its name below the extension's own; "" for the package itself. Raises as `module` does."""
        whole = f"{self.package}.{name}" if name else self.package
        try:
            self.mount()
            return importlib.import_module(whole)
        except (Exception, SystemExit) as error:
            what = error.msg if isinstance(error, SyntaxError) else str(error)
            said = f"{type(error).__name__}: {what}".strip().partition("\n")[0].removesuffix(":")
            raise AblateError(f"{self._place(error)}: {said} (of {self.origin})") from error

    def mount(self) -> None:
        """Make its modules importable under their names, in this process. Imports nothing but an `__init__.py`."""
        if self.package in sys.modules:
            return
        if self.installed:
            spec = _spec(self.package.partition(".")[0])
            if spec is not None and spec.name not in sys.modules:
                _executed(spec)
            return
        if ROOM not in sys.modules:
            room = ModuleType(ROOM)
            room.__path__ = []
            sys.modules[ROOM] = room
        first, places = self.folder / "__init__.py", [str(self.folder)]
        if first.is_file():
            spec = spec_from_file_location(self.package, first, submodule_search_locations=places)
            assert spec is not None
        else:
            spec = ModuleSpec(self.package, None, is_package=True)
            spec.submodule_search_locations = places
        _executed(spec)

    def _place(self, error: BaseException) -> str:
        """File and line of an error: of the code that cannot be read, or the innermost of this extension."""
        if isinstance(error, SyntaxError) and error.filename:
            return f"{error.filename}, line {error.lineno}"
        place, trace = str(self.folder), error.__traceback__
        while trace is not None:
            file = trace.tb_frame.f_code.co_filename
            if Path(file).is_relative_to(self.folder):
                place = f"{file}, line {trace.tb_lineno}"
            trace = trace.tb_next
        return place

    def check_unchanged(self) -> None:
        """Raise AblateError where its files are no longer as they were: what was imported may be of before."""
        if digest_of(self.folder, self.whole) != self.digest:
            raise AblateError(f"{self.origin} has changed since it was read; start this command, or Python, anew")


def digest_of(folder: Path, whole: bool = False) -> str:
    """16 hexadecimal digits (SHA-256) of the names and contents of all Python files below a folder, or of one file.

    Unless it is wanted whole, without its plans, searches and metrics: what is asked of trainings does not change them.
    """
    digest = hashlib.sha256()
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.py"), key=lambda path: path.as_posix())
    for path in files:
        inside = path.relative_to(folder) if path != folder else Path(path.name)
        if any(part.startswith(".") for part in inside.parts) or (not whole and inside.parts[0] in NOT_TRAINED):
            continue
        content = path.read_bytes()
        digest.update(f"{inside.as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


_named: tuple[Path, ...] = ()
"""The folders that a command's options, or Python, named."""
_only: tuple[Extension, ...] | None = None
"""Those that a worker process was given; None elsewhere."""
_packages: dict[str, Extension] = {}
"""Installed packages that networks were taken from by the names of their modules."""


def name(*folders: Path | str) -> None:
    """Have these folders, and no others that were named before, be extensions of this process.

    They come beside those of the environment. Nothing is imported, nor looked at, before it is asked for.
    """
    global _named
    _named = tuple(Path(os.path.abspath(os.path.expanduser(folder))) for folder in folders)


def named() -> tuple[Path, ...]:
    """The folders that `name` was given."""
    return _named


def only(given: tuple[Extension, ...]) -> None:
    """Have exactly these be the extensions of this process, as of a worker, whatever its environment says.

    Their modules can be imported from then on. Raises AblateError where one has changed since it was read.
    """
    global _only
    _only = given
    for extension in given:
        extension.mount()
        extension.check_unchanged()


def known() -> tuple[Extension, ...]:
    """All extensions, in order of their names. Raises AblateError, in a sentence, for one that cannot be used."""
    return _found(_named, os.environ.get(VARIABLE, ""), _here()) if _only is None else _only


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


@lru_cache(maxsize=8)
def _found(folders: tuple[Path, ...], variable: str, here: str) -> tuple[Extension, ...]:
    wanted = [*_of_project(here)] if here else []
    wanted += [Path(os.path.abspath(os.path.expanduser(text))) for text in variable.split(os.pathsep) if text]
    found = {os.path.realpath(extension.folder): extension for extension in _installed()}
    for folder in dict.fromkeys([*wanted, *folders]):
        found.setdefault(os.path.realpath(folder), _of_folder(folder))
    by_name: dict[str, Extension] = {}
    for extension in found.values():
        if other := by_name.get(extension.name):
            raise AblateError(
                f"two extensions are called {extension.name}, {other.origin} and {extension.origin}; rename one"
            )
        by_name[extension.name] = extension
    return tuple(by_name[one] for one in sorted(by_name))


def _of_folder(folder: Path) -> Extension:
    if not folder.is_dir():
        # Those that look like one: a person who is told of every folder reads none.
        beside = sorted({path.parent.name for kind in KINDS for path in folder.parent.glob(f"*/{kind}/")})
        near = did_you_mean(folder.name, beside) if beside else "."
        raise AblateError(f"no folder {str(folder)!r} for an extension{near}")
    if not re.fullmatch(r"[\w-]+", folder.name):
        raise AblateError(f"an extension's folder is called by letters, digits, - and _ alone, not {folder.name!r}")
    if not any((folder / kind).is_dir() for kind in KINDS):
        raise AblateError(f"the folder {folder} is no extension: it has none of {', '.join(KINDS)} in it")
    return Extension(folder.name, f"{ROOM}.{folder.name}", folder, False, digest_of(folder))


def _of_project(here: str) -> Iterable[Path]:
    """The folders that the nearest pyproject.toml with such a key names, from here up to the root.

    A folder that anybody may write to, as /tmp, is passed over: what lies there, somebody else may have put.
    """
    for folder in (Path(here), *Path(here).parents):
        file = folder / PROJECT
        try:
            if folder.stat().st_mode & stat.S_IWOTH or b"ablate" not in (content := read_named(file)):
                continue
            table: Any = parse_toml(content).get("tool", {}).get("ablate", {})
        except OSError:
            continue
        except ValueError as error:
            raise AblateError(f"{file} cannot be read for [tool.ablate]: {error}") from None
        if not isinstance(table, dict) or "extensions" not in table:
            continue
        folders = table["extensions"]
        if not isinstance(folders, list) or not all(isinstance(one, str) for one in folders):
            raise AblateError(f"{file}: tool.ablate.extensions must be a list of folders, not {shown(folders)}")
        return [Path(os.path.abspath(folder / os.path.expanduser(one))) for one in folders]
    return []


@cache
def _installed() -> tuple[Extension, ...]:
    """The extensions among the installed packages. None of them is imported."""
    import importlib.metadata

    points = {
        (point.name, point.value)
        for distribution in importlib.metadata.distributions(path=_search_path())
        for point in distribution.entry_points
        if point.group == GROUP
    }
    found = []
    for title, package in sorted(points):
        top, _, below = package.partition(".")
        spec = _spec(top)
        places = list(spec.submodule_search_locations or ()) if spec else []
        folder = next((path for place in places if (path := Path(place, *below.split("."))).is_dir()), None)
        if folder is None:
            raise AblateError(f"an installed package names {package!r} as an extension, and there is no such package")
        found.append(Extension(title, package, folder, True, digest_of(folder)))
    return tuple(found)


def of_kind(kind: str, own: Iterable[str] = ()) -> dict[str, Extension]:
    """The extension of each file of one of KINDS, by the file's name.

    own: the suite's names. Raises AblateError for a name that is there twice.
    """
    found, taken = _of_kind(known(), kind), set(own)
    for name in found:
        if name in taken:
            path = found[name].files(kind)[name]
            raise AblateError(f"{path}: the suite has {_one(kind)} {name!r} of its own; rename the file")
    return found


@lru_cache(maxsize=64)
def _of_kind(extensions: tuple[Extension, ...], kind: str) -> dict[str, Extension]:
    found: dict[str, Extension] = {}
    for extension in extensions:
        for name, path in extension.files(kind).items():
            if name in found:
                other = found[name].files(kind)[name]
                raise AblateError(f"{_one(kind)} {name!r} is there twice, in {other} and in {path}; rename one")
            found[name] = extension
    return found


def _one(kind: str) -> str:
    return f"a {'search' if kind == SEARCHES else kind.removesuffix('s')}"


def asked_of(module: ModuleType, names: Iterable[str]) -> None:
    """Raise AblateError unless a file of an extension defines all of these names."""
    for one in names:
        if not hasattr(module, one):
            raise AblateError(f"{module.__file__} defines no {one}; its kind needs {', '.join(names)}")


# Which code a training uses.


def code_of(recipe: Recipe) -> str:
    """The names and versions of the extensions that define the recipe's network and the techniques that are on."""
    used = {_of_class(type(t)) for t in recipe.techniques if not t.is_off} | {_of_network(recipe.sized.model.name)}
    return BETWEEN.join(sorted(extension.code for extension in used if extension))


def code_here() -> str:
    """The names and versions of all extensions, and of the packages that networks were taken from in this process.

    Raises AblateError where one has changed since it was read.
    """
    here = {extension.name: extension for extension in (*_packages.values(), *known())}
    for extension in here.values():
        extension.check_unchanged()
    return BETWEEN.join(sorted(extension.code for extension in here.values()))


def parts(code: str) -> list[str]:
    """What `code_of` and `code_here` return, each extension by itself."""
    return [part for part in code.split(BETWEEN) if part]


def versions(code: str) -> dict[str, str]:
    """The digests in it, by the names of extensions."""
    named = (part.rpartition(BEFORE_DIGEST) for part in parts(code))
    return {name: digest for name, _, digest in named if name}


def agree(one: str, other: str) -> bool:
    """Whether two of these have the same version of every extension that both name."""
    first, second = versions(one), versions(other)
    return all(second.get(name, digest) == digest for name, digest in first.items())


def is_extensions(cls: type) -> bool:
    """Whether a class is defined by an extension."""
    return _of_class(cls) is not None


def _of_class(cls: type) -> Extension | None:
    return next((one for one in known() if cls.__module__.startswith(f"{one.package}.")), None)


def _of_network(network: str) -> Extension | None:
    if ":" in network:
        return holding(network.partition(":")[0])
    return _of_kind(known(), NETWORKS).get(network)


# Modules by name, as `package.module:factory` has them.


def holding(module: str) -> Extension | None:
    """The extension, or installed package, that a module's name begins with; None where there is neither.

    What Python would find in the current folder, or beside the script, is none: nobody named it.
    """
    top = module.partition(".")[0]
    by_name: Mapping[str, Extension] = {extension.name: extension for extension in known()}
    if top in by_name:
        return by_name[top]
    if not top.isidentifier() or top in sys.stdlib_module_names:  # which has no networks, and functions that do harm
        return None
    if top not in _packages:
        spec = _spec(top)
        if spec is None:
            return None
        places = list(spec.submodule_search_locations or ())
        place = Path(places[0] if places else spec.origin or "")
        if not place.exists():  # built in
            return None
        _packages[top] = Extension(top, top, place, True, digest_of(place, whole=True), whole=True)
    return _packages[top]


def _spec(top: str) -> ModuleSpec | None:
    """Where a package that is installed, or on a path that a person set, would be imported from."""
    path = _search_path()
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(top, path) if find else None
        if isinstance(spec, ModuleSpec):
            return spec
    return None


def _executed(spec: ModuleSpec) -> None:
    """Import what a spec describes."""
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        if spec.loader is not None:
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(spec.name, None)
        raise


def _search_path() -> list[str]:
    """Python's path without what is on it unasked: the current folder and that of the script."""
    asked = {
        os.path.realpath(one) for one in [*os.environ.get("PYTHONPATH", "").split(os.pathsep), *_paths_of_site()] if one
    }
    unasked = {os.path.realpath(one) for one in (_here(), os.path.dirname(sys.argv[0]) if sys.argv else "")}
    return [one for one in sys.path if one and (os.path.realpath(one) in asked or os.path.realpath(one) not in unasked)]


@cache
def _paths_of_site() -> tuple[str, ...]:
    """The folders that *.pth files name, as those of packages that are installed in place."""
    import site

    found = []
    for folder in [*site.getsitepackages(), site.getusersitepackages()]:
        for file in sorted(Path(folder).glob("*.pth")):
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            found += [os.path.join(folder, line) for line in lines if line and not line.startswith(("import", "#"))]
    return tuple(found)
