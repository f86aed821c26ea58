"""Another model while the worker runs: changing over, shadow, comparison, drift."""
