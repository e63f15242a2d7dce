"""How plans are run: data, networks, the fleet engine, tracking and the command line."""
