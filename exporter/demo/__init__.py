"""A set of real servers to look at, started and broken at will. Nothing of the exporter itself depends on it."""
