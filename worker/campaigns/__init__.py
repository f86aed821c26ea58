"""Campaigns: the same wording, sent again and again with other names, amounts and links. In bounded memory.

signature   START HERE: what stays the same between variants of a text, as 128 bytes that can be compared
index       finds the campaign of a signature; what is remembered, and what is forgotten first
sketch      how many different senders, recipients and link hosts, in 64 bytes each
watching    the observer: gives each message its campaign, and counts what became of it
summaries   the records of the topic: one for each campaign and worker, without text or number
totals      summaries added up over workers and ids, for whoever looks at them
sharing     beside the pipeline: publishes summaries, and reads those of the other workers
"""
