"""Lists: what an operator has allowed, flagged or blocked, on a compacted topic, in force within two seconds.

entries.py    one entry: what it matches, its JSON on the topic, what it may not be
finding.py    the telephone numbers in a text, whatever hides them
matching.py   START HERE: precedence; all entries as one immutable snapshot, and what it says of a message
following.py  reads the topic before the worker's first message, and follows it
guards.py     what the command refuses, because it would hit everybody
"""
