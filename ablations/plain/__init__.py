"""A recipe as one plain PyTorch program that needs nothing of this suite."""
