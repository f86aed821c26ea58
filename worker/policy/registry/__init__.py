"""The sender registry: which senders and link hosts belong to a brand, and what follows for texts that speak as it.

skeleton.py     letters that pass for each other, as one
brands.py       a brand, and all of them compiled for looking up
reading.py      a TOML or CSV file to brands; says what is wrong by line and field
registered.py   START HERE: the rules
watching.py     takes up the file when it changes
following.py    takes up what was pushed to a topic
"""
