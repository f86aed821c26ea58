"""Fire drills: an incident is provoked here, a real Prometheus sees it by the real rules, and it is fixed.

    python -m deploy.drill --list
    python -m deploy.drill poison            provoke it, wait for its alerts, fix it, wait until they have ended
    python -m deploy.drill --blind           one that you are not told: find it with docs/operations.md

`stage` sets a broker, supervised workers, traffic and Prometheus on loopback; `incidents` says what can go wrong;
`saboteur` is the worker with a judge that can be held.
"""
