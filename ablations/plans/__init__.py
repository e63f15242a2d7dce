"""One question a file, found by discovery. Each defines QUESTION and `plan(asked)`, from a PlanRequest to a Plan.

A file that also defines variants() makes a plan for each of them, named `file/variant`.
"""
