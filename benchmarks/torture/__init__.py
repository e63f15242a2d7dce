"""Faults and bad input, by the hundred: does anything get lost, doubled, false, or out?

`make torture` (`python -m benchmarks.torture`) injects faults into real commands, gives them generated bad input, and
writes what became of it to RELIABILITY.md. Each case is drawn from the seed, its kind and its number alone, and any
one of them can be run again by the line that is printed with what it found.

`command` starts commands, `ground` has the small plan that they work on and what must hold afterwards; a module for
each kind of fault says what is done to them.
"""
