"""The pipeline: read, judge, write. START HERE with `stages`; worker/__init__.py lists the rest."""
