"""From a plan to results: packing, worker processes, sizes."""
