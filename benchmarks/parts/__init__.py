"""The parts of the benchmark, one a file: each has `run(options) -> PartResult`."""
