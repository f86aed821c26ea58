"""The operating system's process: subprocesses, signals, logs, processors."""
