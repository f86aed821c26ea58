"""`hamgate campaigns`: what the workers have seen of campaigns, added up. No text, no number."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from worker import app, broker
from worker.campaigns.totals import added_up, summaries
from worker.process import signals

if TYPE_CHECKING:
    import argparse

    from worker.settings import Settings


_HEADING = (
    f"{'campaign':<16} {'messages':>9} {'first':<20} {'last':<20} "
    f"{'senders':>9} {'recipients':>10} {'hosts':>6} {'blocked':>7} {'score':>6}"
)


def campaigns(settings: Settings, options: argparse.Namespace) -> int:
    """Read the topic to its end, and print what is in it, the largest campaign first."""
    topic = settings.campaigns_topic
    if topic is None:
        return _fail("HAMGATE_CAMPAIGNS_TOPIC: not set; name the topic of the workers, as sms.campaigns", signals.USAGE)
    try:
        since = app.moment("--since", options.since)
    except ValueError as error:
        return _fail(str(error), signals.USAGE)
    try:
        with broker.Reader(app.link(settings), topic) as reader:
            found, unreadable = summaries(reader.to_end())
    except (broker.BrokerError, TimeoutError) as error:
        return _fail(str(error))
    shown = [each for each in added_up(found) if since is None or each.last >= since]
    if options.json:
        print(json.dumps([each.as_json() for each in shown], indent=1))  # noqa: T201 the answer
    else:
        for line in (_HEADING, *(each.line() for each in shown)):
            print(line)  # noqa: T201 the answer
    if unreadable:
        print(f"{unreadable:,} records of {topic} are no summaries; passed over", file=sys.stderr)  # noqa: T201
    if not shown:
        return _fail(f"no campaigns in {topic}: a campaign is told from its tenth message on, within some 10 s")
    return signals.DONE


def _fail(why: str, status: int = signals.FAILED) -> int:
    print(why, file=sys.stderr)  # noqa: T201 for the person who typed the command
    return status
