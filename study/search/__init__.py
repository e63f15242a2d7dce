"""Searches: rounds of Optuna studies, whose trials one coordinator asks for, trains and reports."""
