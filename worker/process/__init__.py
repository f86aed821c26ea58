"""The worker as a process of the operating system.

signals  SIGTERM and what else ends it, and exit statuses
logs     structured logs, without message texts
ending   clean-ups, and the end itself, within the grace
streams  standard streams that cannot break the process
serving  an HTTP server on a thread of its own
states   what the worker is doing, for /readyz and metrics
child    a subprocess that is sent requests (tokenizer, sink)
cores    how many CPU cores it may use
"""
