"""The command `ablate`, also as `python -m cifar_ablations`: Ctrl-C ends it in order from the first import on."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading


def let_interrupts_through() -> None:
    """Have a Ctrl-C that comes while Python frees an object, where it would be printed and lost, come again."""
    others = sys.unraisablehook

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            again = threading.Timer(0.05, _interrupt_main)
            again.daemon = True
            again.start()
        else:
            others(lost)

    sys.unraisablehook = hook


def _interrupt_main() -> None:
    """Interrupt the main thread, also where it waits for the system: `_thread.interrupt_main` alone wakes nobody."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


def main() -> None:
    """The console script."""
    let_interrupts_through()
    try:
        from cifar_ablations.study.commands.app import main as command
    except KeyboardInterrupt:
        print("\nStopped, before anything had begun.", file=sys.stderr)
        sys.exit(130)
    command()


if __name__ == "__main__":
    # Python looks for modules in the current folder first, where anybody's may lie, unless this package lies there.
    if not sys.flags.safe_path and os.path.abspath(sys.path[0]) != os.path.dirname(os.path.dirname(__file__)):
        del sys.path[0]
    main()
