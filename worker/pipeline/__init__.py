"""The pipeline. `stages` first: it reads, judges and writes. Importing this package loads nothing."""
