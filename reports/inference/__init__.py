"""Numbers from runs: statistics, contrasts, verdicts; no sentence."""
