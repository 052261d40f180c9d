"""What psomerge costs, measured: `python -m benchmarks [NAME ...]`. Prints figures with their context; asserts no
time."""
