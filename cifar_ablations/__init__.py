"""Ablations of training techniques that answer. The packages lie beside this folder, under one importable name."""
