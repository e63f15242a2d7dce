"""The `ablate` command: the one room that sees definitions, runs and reports."""
