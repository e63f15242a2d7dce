"""One search a file, found by discovery. Each defines QUESTION and search(baseline, trials).

search() is a generator: it yields the studies to be carried out side by side, and is sent the best trial of each.
A file that defines KEEPS_BASELINE looks for more than one best recipe: what it finds goes to the plan `tuned`,
or to the plan that it names as OF_PLAN, for each arm of which it finds a learning rate.
"""
