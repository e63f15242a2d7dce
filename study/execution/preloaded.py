"""What a worker needs before it can train, imported once by the process that workers are forked from.

Nothing else stands here, so that the import is all that happens: torch alone takes over two seconds of a core.
"""

from __future__ import annotations

import gc

# The collector of cycles walks all modules again and again while they are made: a fifth of the time. Afterwards they
# are taken out of its sight, which also leaves their memory shared between the workers.
gc.disable()

import cifar_ablations.study.data.dataset  # noqa: E402
import cifar_ablations.study.training.engine  # noqa: E402, F401

gc.freeze()
gc.enable()
