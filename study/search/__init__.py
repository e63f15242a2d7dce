"""Searches: rounds of Optuna studies, asked and told by one coordinator."""
