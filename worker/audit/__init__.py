"""The audit: proves, beside the workers, that every input offset has exactly one verdict or dead letter, in order.

auditor    START HERE: the round that asks, reads and judges
ledger     the rules, without Kafka: what is lost, duplicated, reordered, or of no source
window     what is known of one partition's offsets
answers    which record a verdict or a dead letter answers
starting   where an audit begins
brokers    what it asks of Kafka, which worker.broker.audit answers
running    until it is stopped, or once; through outages
news       its log and metrics; report: what --once prints
"""
