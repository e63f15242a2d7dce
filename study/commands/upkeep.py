"""Commands that look after an output folder and what it needs: doctor, clean. `app` gives them their names."""

from __future__ import annotations

from typing import Annotated

import typer

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.study.commands.ending import along, errors, say
from cifar_ablations.study.commands.options import Json


def doctor_command(
    store: Annotated[
        bool,
        typer.Option(
            "--store",
            help="Go through a whole store instead: its database, every run and file, what is there twice, and what "
            "was left over. It writes nothing (default: what a run needs).",
        ),
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="As --store, and mend what can be: damaged files are put aside, never deleted (default: only look).",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Look at what a run needs: versions, processor, kernels, disk, store, data and speed; say what is odd.

    Exit code 1: something must be mended before `ablate run` works, or in the store; what, and how, is said.
    """
    if store or repair:
        with errors("doctor-store", as_json) as answer:
            from cifar_ablations.study.commands import store_check
            from cifar_ablations.study.store.home import Home

            home = Home()
            checked = store_check.repair(home, along) if repair else store_check.check(home)
            if answer is None:
                store_check.show(checked, say)
            else:
                answer.write(store_check.as_facts(home, checked))
            raise typer.Exit(checked.code)
    with errors("doctor", as_json) as answer:
        from cifar_ablations.study.commands.doctor import as_facts, examine, show

        found = examine()
        if answer is None:
            show(found, say)
        else:
            answer.write(as_facts(found))
        raise typer.Exit(found.code)


def clean_command(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(metavar="KIND", help="What to free; without any, what takes room is shown, and nothing freed."),
    ] = None,
    all_of_them: Annotated[
        bool,
        typer.Option("--all", help="Free all that costs no more than the time to make it again (default: the kinds)."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what takes room in the output folder, by kind, and free what is named; never touches a result."""
    with errors("clean", as_json) as answer:
        from cifar_ablations.study.commands import clean
        from cifar_ablations.study.store.home import Home

        if kinds and all_of_them:
            raise AblateError("--all and the name of a kind both say what to free; give one of them")
        home = Home()
        room = clean.clean(home, kinds or (), all_of_them, along)
        if answer is None:
            clean.show(room, home, say)
        else:
            answer.write(clean.as_facts(room))
