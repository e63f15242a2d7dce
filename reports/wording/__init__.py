"""Sentences and tables from numbers; computes nothing."""
