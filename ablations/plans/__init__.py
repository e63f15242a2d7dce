"""One question a file, found by discovery. Each defines QUESTION and plan(baseline, profile, seeds)."""
