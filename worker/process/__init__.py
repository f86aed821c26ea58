"""What it takes to be a process: subprocesses, signals, logs, processors."""
