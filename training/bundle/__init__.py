"""From a trained adapter to a bundle that the worker loads."""
