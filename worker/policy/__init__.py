"""What is done with a message: the score's bands, and what is known beside the text, in one order.

order.py   START HERE: the table of who decides, and the walk through it
facts.py   what is known of one message: its sender and recipient, the links and numbers in it
bands.py   from a score to an action
following.py  a topic that is read whole before the first message, and then followed
links.py   hosts of the links in a text
registry/  which senders and hosts are whose, and what follows
"""
