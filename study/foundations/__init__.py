"""The notebook's small demonstrations, one a file, each exact, seeded and checked.

A demonstration's file defines NAME (the file's), TITLE, CHAPTER (its place in the course) and run(seed), which returns
a `Demonstration`. `catalog` finds it by looking in this folder.
"""
