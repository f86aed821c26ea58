"""Reports: what subscribers and analysts say of verdicts, and what is believed of it.

reports     START HERE: one report on its topic, and why it may be refused
records     what is kept: decisions with their votes and history, reporters, first halves, refused reports
accepting   which votes count, and when they decide: a state machine in bounded memory
recent      the last messages and verdicts, so that a text or an id leads to a message
joining     from a report to its message, to a vote
running     the loop of `hamgate feedback`
"""
