"""One question a file, found by discovery. Each defines QUESTION and plan(baseline, profile, seeds).

A file that also defines variants() makes a plan for each of them, named `file/variant`: plan() gets it as a fourth
argument. One whose plan() takes `retuned` gets what a search found for the baseline without each of its techniques.
"""
