"""Writes docs/formats: JSON Schemas of what hamgate reads and writes; AsyncAPI of its topics, OpenAPI of /predict.

python -m deploy.formats            write them
python -m deploy.formats --check    say which differ from what the types give; exit 1 if any does

Names and types come from the types in `worker`; units, sources and limits stand here.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import yaml

from worker.campaigns.signature import LENGTH, SCHEME
from worker.campaigns.summaries import CampaignSummary
from worker.feedback.records import FeedbackDecision
from worker.feedback.reports import LONGEST_REASON, FeedbackReport
from worker.messages import (
    EARLIEST,
    LATEST,
    MAX_DEPTH,
    MAX_HEADERS,
    MAX_ID,
    TRUNCATED,
    DeadLetter,
    Decider,
    Event,
    Flag,
    Record,
    Unreadable,
    Unscored,
    Verdict,
    encode_dead_letter,
)
from worker.policy.lists.entries import ListEntry
from worker.policy.registry.following import FORMATS as FORMATS_OF_REGISTRY
from worker.policy.registry.following import KEY
from worker.predict.openapi import document
from worker.rollout.shadow import Disagreement, Summary
from worker.senders.snapshots import SenderSnapshot
from worker.settings import Settings, decisions_topic

if TYPE_CHECKING:
    from collections.abc import Iterator

    Schema = dict[str, Any]

FORMATS: Final = Path(__file__).resolve().parents[1] / "docs" / "formats"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ASYNCAPI: Final = "asyncapi.yaml"
OPENAPI: Final = "openapi.yaml"
_MADE: Final = "Made by `python -m deploy.formats`: change that."

_RFC3339: Final = {"format": "date-time", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
_COUNT: Final = {"minimum": 0}
_SCORE: Final = {"minimum": 0, "maximum": 1}
_MS: Final = 1000
_MAX_BYTES: Final = Settings.model_fields["max_event_bytes"].default
_KNOWN_FLAGS: Final = ", ".join(sorted(Flag))

# Title and description of each type.
_TYPES: Final[dict[str, tuple[str, str]]] = {
    "Event": (
        "Event, version 1",
        (
            "One SMS to judge, in UTF-8. Unknown fields are ignored; null is as good as absent, but for `text`. "
            f"Beyond this schema: at most {_MAX_BYTES} bytes of key and value (HAMGATE_MAX_EVENT_BYTES), nested "
            f"{MAX_DEPTH} deep, {MAX_HEADERS} headers. "
            "What breaks one of these rules becomes a dead letter."
        ),
    ),
    "Verdict": (
        "Verdict, version 1",
        (
            "What is decided about one event, under the event's key. It never holds the text or a phone number. "
            "Readers must ignore fields, flags and reasons that they do not know: version 1 may gain some."
        ),
    ),
    "Action": ("Action", "What the carrier is told to do."),
    "SenderType": ("Sender type", "What kind of address a message comes from."),
    "Unscored": ("Unscored", "Why there is no score."),
    "DryRun": ("Rule in dry run", "What a rule would have done; it changed nothing."),
    "RecordSource": ("Source", "Where the event lies. Topic, partition and offset together are unique."),
    "Latency": ("Latency", "Milliseconds, to the hundredth, never below 0."),
    "Disagreement": (
        "Shadow report: disagreement",
        "A message that the shadow labels differently. At most 200 of them are sent between two summaries.",
    ),
    "Summary": (
        "Shadow report: summary",
        "How a shadow's labels compare with the primary's, about every 10 s while there are messages.",
    ),
    "Opinion": ("Opinion", "What one model says of the message."),
    "ListEntry": (
        "List entry",
        (
            "What is allowed, flagged or blocked, on a compacted topic. Its record's key is `what:match:value`; a "
            "tombstone removes it. A record that is none is skipped. Beyond this schema: no public suffix, no empty "
            "value, nothing personal in clear. `hamgate lists` writes it."
        ),
    ),
    "What": ("What", "What of a message is looked at."),
    "Match": ("Match", "How: all of it, its beginning, its end; of a host, it and all below it."),
    "CampaignSummary": (
        "Campaign summary",
        (
            "What one worker has seen of a campaign, under `campaign:worker`; a tombstone ends it. Readers add up over "
            "workers. It holds no text, number, sender or link."
        ),
    ),
    "SenderSnapshot": (
        "Sender snapshot",
        (
            "How a sender behaves, as one worker saw it: for the next owner of its partition. Its key is the keyed "
            "hash of the sender's address (HMAC-SHA-256, 32 hexadecimal digits). Not in a transaction."
        ),
    ),
    "FeedbackReport": (
        "Report, version 1",
        (
            "What a subscriber or an analyst says of a message. A subscriber's has `reporter` and one of `id`, "
            "`source` and `text`; or only `sender`, within 15 minutes of a `text` by the same reporter. An analyst's "
            "has `author`, `label` and one of `decision`, `id` and `source`. Unknown fields are ignored. What breaks "
            "one of these rules is refused, by name, on the topic of decisions."
        ),
    ),
    "ReportedPlace": ("Place", "Where a message lies in the input."),
    "FeedbackDecision": (
        "Decision on reports, version 1",
        (
            "What is decided of one text, under the key `decision:` and its id; the last of a key counts. Other keys "
            "of the topic hold reporters, texts that wait for their sender, and refused reports: they are hamgate's. "
            "Hashes are keyed; times are Unix seconds."
        ),
    ),
    "SaidVerdict": ("Verdict said", "What the verdict on the message says."),
    "ReportVote": ("Vote", "One reporter's word."),
    "DecisionChange": ("Change", "One line of the audit trail."),
    "DecisionState": (
        "State",
        "Open: nothing is decided. Disputed: an analyst has to look. Refused: given up.",
    ),
}
# What a type cannot say: description, and the limits that are checked or kept.
_FIELDS: Final[dict[str, dict[str, Schema]]] = {
    "Event": {
        "text": {"description": "The message's text, whole and decoded. It may be empty: its verdict is `unscored`."},
        "id": {
            "description": "The sender's own id. Absent, null or empty: `topic:partition:offset` of the record.",
            "maxLength": MAX_ID,
        },
        "sender": {
            "description": "Who sent it: a number, a short code, an alphanumeric sender id or an e-mail address. "
            "Compared with lists and the sender registry; it is not published."
        },
        "recipient": {"description": "Who is to get it. Only its type is checked; it is not published."},
        "received_at": {
            "description": "When the carrier got it: RFC 3339 with an offset, or Unix time in milliseconds. "
            "Absent: the record's timestamp. Years 2000 to 2099.",
            "format": "date-time",
            "minimum": round(EARLIEST * _MS),
            "maximum": round(LATEST * _MS),
        },
        "direction": {"description": "Such as `mobile-terminated`. Only its type is checked."},
        "lang": {"description": "Language tag. Only its type is checked."},
        "network": {"description": "The operator's network, such as MCC and MNC. Only its type is checked."},
        "sender_type": {
            "description": "What kind of address `sender` is, where the network knows. Absent: by its spelling; digits "
            "alone are a short code below seven. Another value is a dead letter."
        },
    },
    "Verdict": {
        "id": {"description": "The event's `id`, or `topic:partition:offset`. A number is now text."},
        "label": {"description": "A label of the model, such as `ham` or `spam`. Null: no score."},
        "score": {"description": "Calibrated probability that it is not ham, from 0 to 1. Null: no score.", **_SCORE},
        "threshold": {"description": "Score from which on the label is not ham, from 0 to 1.", **_SCORE},
        "action": {
            "description": "What to do: by score, flags and operator's settings; without a score, HAMGATE_ON_UNSCORED."
        },
        "reason": {
            "description": "Why there is no score "
            f"({', '.join(Unscored)}), or what decided in its place ({', '.join(Decider)}). Null: the score did."
        },
        "flags": {
            "description": "What was done to the text before it was judged, what it is, and how its sender behaves. "
            f"Known so far: {_KNOWN_FLAGS}."
        },
        "model": {"description": "The bundle that judged it: `name@digest`."},
        "source": {"description": "Where the event lies."},
        "scored_at": {"description": "When the model had answered: RFC 3339, UTC, milliseconds.", **_RFC3339},
        "latency_ms": {"description": "How long each step took."},
        "language": {
            "description": "ISO 639-1 code of the language that most of the text is in. Null: not known, as in most "
            "short texts. Absent from versions before this field.",
            "pattern": "^[a-z]{2}$",
        },
        "rule": {
            "description": "The rule that decided, by a name that tells nothing of what it matches. Absent: none."
        },
        "dry_run": {"description": "Rules in dry run that match. Absent: none does."},
        "campaign": {"description": "The campaign that it belongs to, a hash of its wording. Absent: none is known."},
        "campaign_size": {"description": "Messages of that campaign so far, this one with them.", **_COUNT},
    },
    "DryRun": {
        "rule": {"description": "The rule, by name."},
        "action": {"description": "The action that it would have led to."},
    },
    "RecordSource": {
        "topic": {"description": "The event's topic."},
        "partition": {"description": "The event's partition.", **_COUNT},
        "offset": {"description": "The event's offset.", **_COUNT},
        "timestamp": {"description": "The record's timestamp: Unix time in milliseconds, as the broker has it."},
    },
    "Latency": {
        "broker": {"description": "From the record's timestamp until it was polled.", **_COUNT},
        "queue": {"description": "From the poll until the model took its batch.", **_COUNT},
        "inference": {"description": "The model's time for the batch.", **_COUNT},
        "total": {"description": "From the record's timestamp until the verdict was made.", **_COUNT},
    },
    "Disagreement": {
        "kind": {"description": "Tells the reports apart."},
        "id": {"description": "The verdict's `id`."},
        "source": {"description": "Where the event lies."},
        "at": {"description": "When the shadow had answered: RFC 3339, UTC, milliseconds.", **_RFC3339},
        "primary": {"description": "What was published."},
        "shadow": {"description": "What the shadow would have said."},
    },
    "CampaignSummary": {
        "campaign": {"description": "The campaign's id: of all that it has had, the smallest."},
        "aliases": {"description": "Other ids of it."},
        "worker": {"description": "The worker's instance id."},
        "size": {"description": "Messages that this worker has seen."},
        "first": {"description": "The earliest message's `received_at`."},
        "last": {"description": "The latest message's `received_at`."},
        "scheme": {"description": "How the signature is made: only those of one scheme can be compared."},
        "signature": {"description": "128 hashes of the wording, a byte each; their equal share is a similarity."},
        "senders": {"description": "Different senders, an estimate within some 13 %."},
        "recipients": {"description": "Different recipients, an estimate."},
        "hosts": {"description": "Different hosts of links, an estimate."},
        "delivered": {"description": "Messages delivered, from the second on."},
        "flagged": {"description": "Messages flagged, from the second on."},
        "blocked": {"description": "Messages blocked, from the second on."},
        "unscored": {"description": "Messages without a score, from the second on."},
        "score": {"description": "Mean of the scores. Null: none has one."},
        "scored": {"description": "Messages with a score, from the second on."},
        "alone_flagged": {"description": "Of these, how many the score alone would flag, whatever rules made of them."},
        "alone_blocked": {"description": "And how many it alone would block."},
    },
    "Opinion": {
        "model": {"description": "The bundle: `name@digest`."},
        "label": {"description": "A label of the model. Null: no score."},
        "score": {"description": "Calibrated probability that it is not ham. Null: no score.", **_SCORE},
    },
    "ListEntry": {
        "what": {"description": "What of a message is looked at."},
        "match": {"description": "How it is compared."},
        "value": {
            "description": "A host in ASCII, a sender in NFKC without case, a campaign; of a number, a recipient or an "
            "e-mail address `#` and 32 hexadecimal digits: 16 bytes of HMAC-SHA-256 of `list:what:match`, a zero byte "
            "and the value.",
            "maxLength": 253,
        },
        "action": {"description": "What is done: `allow` delivers."},
        "author": {"description": "Who wants it.", "maxLength": 500},
        "reason": {"description": "Why; never a telephone number.", "maxLength": 500},
        "added_at": {"description": "When it was added: RFC 3339."},
        "until": {"description": "When it expires: RFC 3339. Absent or null: never."},
        "dry_run": {"description": "Whether verdicts only say what it would have done."},
        "length": {"description": "Characters of a hashed prefix or suffix; 0: the whole is hashed.", **_COUNT},
        "key": {"description": "Which key hashed it, by eight digits that tell nothing of the key."},
        "national": {"description": "A number's hash as it is dialled within its country."},
        "national_length": {"description": "Characters of that, where it is a prefix.", **_COUNT},
    },
    "SenderSnapshot": {
        "at": {"description": "The last message: Unix time in seconds, by the events' clock."},
        "first": {"description": "The first message since the sender is known here: Unix time in seconds."},
        "count": {"description": "Messages, each counting half after five minutes, as of `at`.", **_COUNT},
        "recipients": {
            "description": "Bits that distinct recipients of an hour have set, of 64 (linear counting).",
            **_COUNT,
            "maximum": 64,
        },
        "spam": {"description": "Share of the last messages that the model labels other than ham.", **_SCORE},
        "judged": {"description": "How many messages that share is of, 64 at most.", **_COUNT},
        "strangers": {"description": "Share of the last messages that were first contacts.", **_SCORE},
        "counted": {"description": "How many messages that share is of, 64 at most.", **_COUNT},
    },
    "Summary": {
        "kind": {"description": "Tells the reports apart."},
        "since": {"description": "First message counted: RFC 3339, UTC, milliseconds.", **_RFC3339},
        "until": {"description": "When it was made: RFC 3339, UTC, milliseconds.", **_RFC3339},
        "primary": {"description": "The primary's bundle: `name@digest`."},
        "shadow": {"description": "The shadow's bundle: `name@digest`."},
        "judged": {"description": "Messages that both have judged.", **_COUNT},
        "skipped": {"description": "Messages that the shadow was too slow for.", **_COUNT},
        "labels": {"description": "Messages by the primary's label, then by the shadow's (`none`: no score)."},
    },
    "FeedbackReport": {
        "label": {
            "description": "What the message is: `spam`, `ham`. Absent in a subscriber's: `spam`. An analyst's "
            "`dismiss`, with a reason: it is none to learn from."
        },
        "reporter": {
            "description": "The subscriber: a number, or a pseudonym that stays the same. Kept as a keyed hash."
        },
        "author": {
            "description": "The analyst: letters, digits, '.', '_' and '-', no number of five digits.",
            "maxLength": 64,
        },
        "reason": {
            "description": "An analyst's note, without a link, an address or five digits in a row.",
            "maxLength": LONGEST_REASON,
        },
        "id": {
            "description": "The verdict's `id`; one that is not `topic:partition:offset` is found while it is recent."
        },
        "source": {"description": "The verdict's `source`."},
        "decision": {"description": "The id of a decision, as `hamgate feedback show` lists it."},
        "text": {"description": "The text as it was received or forwarded; found while it is recent, then forgotten."},
        "sender": {"description": "From whom it came. The right one shows that the reporter has seen the message."},
    },
    "ReportedPlace": {
        "topic": {"description": "The input topic."},
        "partition": {"description": "Its partition.", **_COUNT},
        "offset": {"description": "Its offset.", **_COUNT},
    },
    "FeedbackDecision": {
        "kind": {"description": "Tells the records of the topic apart."},
        "id": {"description": "Partition and offset of the report that opened it."},
        "subject": {"description": "The text's keyed hash."},
        "source": {"description": "One message of that text."},
        "said": {"description": "The verdict on it. Null: it was too long ago."},
        "state": {"description": "How far it is."},
        "label": {"description": "What was accepted: `spam`, `ham`. Null: nothing yet."},
        "votes": {"description": "One for each reporter, 30 at most."},
        "history": {"description": "Who changed what, the oldest first; of more than 100 the first and the newest."},
        "touched_at": {"description": "When the last vote or word came."},
    },
    "SaidVerdict": {
        "label": {"description": "`ham`; `spam` for any other label. Null: no score."},
        "score": {"description": "The verdict's score. Null: none.", **_SCORE},
        "action": {"description": "The verdict's action."},
    },
    "ReportVote": {
        "reporter": {"description": "The reporter's keyed hash."},
        "label": {"description": "What the reporter says."},
        "trust": {"description": "What the vote weighs, from 0 to 1.", **_SCORE},
        "cohort": {"description": "Day of the reporter's first report, in days since 1970."},
        "at": {"description": "When it was cast."},
        "is_witnessed": {"description": "Whether the report shows that its reporter has seen the message."},
        "credit": {"description": "What it has changed in the reporter's record: right +1, wrong -1, not known 0."},
    },
    "DecisionChange": {
        "at": {"description": "When."},
        "by": {"description": "`analyst:` and the author, or `rule:` and its name."},
        "state": {"description": "The state from then on."},
        "label": {"description": "The label from then on."},
        "before": {"description": "The state before. Null: there was none."},
        "before_label": {"description": "The label before."},
        "reason": {"description": "The analyst's note."},
    },
}
_PLACE: Final = {"topic": "sms.events", "partition": 3, "offset": 41, "timestamp": 1_790_000_000_000}
_EXAMPLES: Final[dict[str, Schema]] = {
    "Event": {"id": "m-1", "text": "WINNER!! Call now", "received_at": "2026-09-21T14:13:20Z"},
    "Verdict": {
        "id": "m-1",
        "label": "spam",
        "score": 0.9931,
        "threshold": 0.5,
        "action": "block",
        "reason": None,
        "flags": ["normalised"],
        "model": "nano@0123456789ab",
        "source": _PLACE,
        "scored_at": "2026-09-21T14:13:20.019Z",
        "latency_ms": {"broker": 4.1, "queue": 6.25, "inference": 8.5, "total": 19.02},
        "language": "en",
    },
    "Disagreement": {
        "kind": "disagreement",
        "id": "m-1",
        "source": _PLACE,
        "at": "2026-09-21T14:13:20.102Z",
        "primary": {"model": "nano@0123456789ab", "label": "spam", "score": 0.9931},
        "shadow": {"model": "next@ba9876543210", "label": "ham", "score": 0.41},
    },
    "ListEntry": {
        "what": "link-host",
        "match": "suffix",
        "value": "evil.example",
        "action": "block",
        "author": "ana",
        "reason": "parcel scam",
        "added_at": "2026-09-21T14:13:20Z",
        "until": "2027-01-01T00:00:00Z",
    },
    "CampaignSummary": {
        "campaign": "84f95b4801538324",
        "worker": "hamgate-0",
        "size": 1207,
        "first": "2026-09-21T13:02:11Z",
        "last": "2026-09-21T14:13:20Z",
        "scheme": SCHEME,
        "signature": base64.b64encode(bytes(range(LENGTH))).decode(),
        "aliases": [],
        "senders": 31,
        "recipients": 1190,
        "hosts": 12,
        "delivered": 40,
        "flagged": 0,
        "blocked": 1166,
        "unscored": 0,
        "score": 0.9312,
        "scored": 1206,
        "alone_flagged": 52,
        "alone_blocked": 1139,
    },
    "SenderSnapshot": {
        "at": 1_790_000_000.0,
        "first": 1_789_996_400,
        "count": 31.5,
        "recipients": 22,
        "spam": 0.4375,
        "judged": 32,
        "strangers": 0.9688,
        "counted": 64,
    },
    "Summary": {
        "kind": "summary",
        "since": "2026-09-21T14:13:12.004Z",
        "until": "2026-09-21T14:13:22.011Z",
        "primary": "nano@0123456789ab",
        "shadow": "next@ba9876543210",
        "judged": 5120,
        "skipped": 0,
        "labels": {"ham": {"ham": 4480}, "spam": {"ham": 1, "spam": 639}},
    },
    "FeedbackReport": {"reporter": "+447700900001", "text": "WINNER!! Call now", "sender": "+447700900002"},
    "FeedbackDecision": {
        "kind": "decision",
        "id": "0-41",
        "subject": "3f9c0a5d1e2b4c6f8a7b9c0d1e2f3a4b",
        "source": {"topic": "sms.events", "partition": 3, "offset": 41},
        "said": {"label": "ham", "score": 0.02, "action": "deliver"},
        "state": "accepted",
        "label": "spam",
        "votes": [
            {
                "reporter": "0a1b2c3d4e5f60718293a4b5c6d7e8f9",
                "label": "spam",
                "trust": 0.0,
                "cohort": 20717,
                "at": 1_790_000_000.0,
                "is_witnessed": True,
                "credit": 1,
            }
        ],
        "history": [
            {
                "at": 1_790_000_000.0,
                "by": "rule:against-a-sure-verdict",
                "state": "disputed",
                "label": None,
                "before": None,
                "before_label": None,
                "reason": None,
            },
            {
                "at": 1_790_000_600.0,
                "by": "analyst:anna",
                "state": "accepted",
                "label": "spam",
                "before": "disputed",
                "before_label": None,
                "reason": "parcel scam",
            },
        ],
        "touched_at": 1_790_000_600.0,
    },
}
# Header values are bytes; these are the UTF-8 text in them.
_ADDED: Final[dict[str, Schema]] = {
    "field": {"type": ["string", "null"], "description": "The event's field that is wrong. Null: not known."},
    "byte-offset": {
        "type": ["string", "null"],
        "description": "The byte of the event's value at which it is wrong, from 0, in decimal. Null: not known.",
        "pattern": "^[0-9]+$",
    },
    "reason": {"description": "Why it could not be read.", "enum": sorted(Unreadable)},
    "source-topic": {"description": "The event's topic."},
    "source-partition": {"description": "The event's partition, in decimal.", "pattern": "^[0-9]+$"},
    "source-offset": {"description": "The event's offset, in decimal.", "pattern": "^[0-9]+$"},
    "failed-at": {"description": "When it was given up: RFC 3339, UTC, milliseconds.", **_RFC3339},
    TRUNCATED: {
        "description": "Only the first 65,536 bytes of the event's value are here; this is its length, in decimal. The "
        "whole event lies at its source, while the input keeps it.",
        "pattern": "^[0-9]+$",
    },
}


class _Plain(yaml.SafeDumper):
    """Writes equal parts in full, not as references to the first."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 the base class's
        """Return that nothing is to be a reference."""
        return True


def schemas() -> dict[str, Schema]:
    """Return each schema by its file's name."""
    return {
        "event-v1.schema.json": _of(Event),
        "verdict-v1.schema.json": _of(Verdict),
        "dead-letter-headers.schema.json": _dead_letter_headers(),
        "shadow-disagreement.schema.json": _of(Disagreement),
        "shadow-summary.schema.json": _of(Summary),
        "list-entry.schema.json": _of(ListEntry),
        "campaign-summary.schema.json": _of(CampaignSummary),
        "sender-snapshot.schema.json": _of(SenderSnapshot),
        "feedback-report-v1.schema.json": _of(FeedbackReport),
        "feedback-decision-v1.schema.json": _of(FeedbackDecision),
    }


def files() -> Iterator[tuple[Path, str]]:
    """Each file that is made, and what belongs in it."""
    for name, schema in schemas().items():
        yield FORMATS / name, json.dumps(schema, indent=2) + "\n"
    yield FORMATS / OPENAPI, f"# {_MADE}\n" + yaml.dump(document(), Dumper=_Plain, sort_keys=False, width=110)
    yield FORMATS / ASYNCAPI, f"# {_MADE}\n" + yaml.dump(asyncapi(), Dumper=_Plain, sort_keys=False, width=110)


def stale() -> list[Path]:
    """Return the files whose content differs from what would be made now."""
    return [path for path, content in files() if not path.is_file() or path.read_text() != content]


def _of(type_: type) -> Schema:
    """Return the type's schema. Raises KeyError for a field that nothing here describes."""
    definitions = {name: _described(name, each) for name, each in msgspec.json.schema(type_)["$defs"].items()}
    root = definitions.pop(type_.__name__)
    made = {"$schema": DIALECT, "$comment": _MADE, **root, "examples": [_EXAMPLES[type_.__name__]]}
    return made | ({"$defs": definitions} if definitions else {})


def _described(name: str, definition: Schema) -> Schema:
    title, description = _TYPES[name]
    made = definition | {"title": title, "description": description}
    if "properties" in made:
        about = _FIELDS[name]
        made["properties"] = {field: _joined(its) | about[field] for field, its in made["properties"].items()}
    return made


def _joined(field: Schema) -> Schema:
    """A union of plain types as one list of their names: `number` includes `integer`."""
    field = {name: its for name, its in field.items() if name != "default"}
    branches = field.get("anyOf", [])
    if not branches or any(branch.keys() != {"type"} for branch in branches):
        return field
    names = [branch["type"] for branch in branches]
    return {"type": [name for name in names if name != "integer" or "number" not in names]}


def _dead_letter_headers() -> Schema:
    """Return the schema of the added headers by name: the last value counts where an event had such a header itself."""
    letter = encode_dead_letter(
        DeadLetter(Record("sms.events", 3, 41, 0.0, None, b"{"), Unreadable.INVALID_JSON, 1_790_000_000.0, at=1)
    )
    added = {name: None if value is None else value.decode() for name, value in letter.headers}
    return {
        "$schema": DIALECT,
        "$comment": _MADE,
        "title": "Dead-letter headers",
        "description": "Headers of a dead letter, each value as the UTF-8 text that it is. The event's own headers "
        "come first, unchanged; these seven are the last, after `truncated` where the topic did not take the whole "
        "event. Older versions did not write `field` and `byte-offset`. Where a name occurs twice the last one counts.",
        "type": "object",
        "properties": {name: {"type": "string"} | _ADDED[name] for name in (*added, TRUNCATED)},
        "required": [name for name in added if name not in ("field", "byte-offset")],
        "examples": [added],
    }


_KEY: Final[Schema] = {
    "type": ["string", "null"],
    "description": "The subscriber, as any stable text or bytes. Events of one key are judged in order. "
    "Null: any partition, no order.",
}
_HASH: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "The sender's keyed hash."}
_SAME_KEY: Final[Schema] = {"type": ["string", "null"], "description": "The event's key, byte for byte."}
_ENTRY_KEY: Final[Schema] = {"type": "string", "description": "`what:match:value` of the entry."}
_CAMPAIGN_KEY: Final[Schema] = {"type": "string", "description": "`campaign:worker`."}
_TRACE: Final[Schema] = {
    "traceparent": {
        "type": "string",
        "description": "W3C trace context. Carried to the verdict if it is valid and there is only one.",
        "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
    },
    "tracestate": {"type": "string", "description": "W3C trace state. Carried with a valid `traceparent`."},
}
_SAME_TRACE: Final[Schema] = {
    "traceparent": {"type": "string", "description": "The event's; where hamgate traces, its own span of that trace."},
    "tracestate": {"type": "string", "description": "The event's."},
}
_FEEDBACK: Final = "sms.feedback"
_REPORTERS_KEY: Final[Schema] = {
    "type": ["string", "null"],
    "description": "The same for all reports of one reporter, so that a text comes before its sender.",
}
_DECISIONS_KEY: Final[Schema] = {"type": "string", "description": "`decision:` and the decision's id."}
_CONTENT_TYPE: Final[Schema] = {"type": "string", "description": "Optional, and not read."}
_JSON: Final = "application/json"


def asyncapi() -> Schema:
    """Return the AsyncAPI 3.0 document: topics by their default names, what hamgate receives and sends."""
    topics = {
        name: Settings.model_fields[f"{name}_topic"].default for name in ("input", "verdict", "dead_letter", "shadow")
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "hamgate",
            "version": "1.0.0",
            "description": "SMS events in, one verdict or dead letter each. Topics have their default names; "
            "settings rename them.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _JSON,
        "channels": {
            "events": _channel(topics["input"], "Events to judge.", "HAMGATE_INPUT_TOPIC", "event"),
            "verdicts": _channel(topics["verdict"], "Read read_committed.", "HAMGATE_VERDICT_TOPIC", "verdict"),
            "deadLetters": _channel(
                topics["dead_letter"], "Read read_committed.", "HAMGATE_DEAD_LETTER_TOPIC", "deadLetter"
            ),
            "shadowReports": _channel(
                topics["shadow"],
                "Written without a transaction, only where HAMGATE_SHADOW is set.",
                "HAMGATE_SHADOW_TOPIC",
                *("shadowDisagreement", "shadowSummary"),
            ),
            "lists": _channel(
                "sms.lists", "Compacted; followed only where the setting names it.", "HAMGATE_LISTS_TOPIC", "listEntry"
            ),
            "registry": _channel(
                "sms.registry",
                "Compacted, one partition; followed only where the setting names it.",
                "HAMGATE_REGISTRY_TOPIC",
                "senderRegistry",
            ),
            "campaigns": _channel(
                "sms.campaigns",
                "Compacted. Written without a transaction, and read by the workers, only where the setting is there.",
                "HAMGATE_CAMPAIGNS_TOPIC",
                "campaignSummary",
            ),
            "senderSnapshots": _channel(
                "sms.senders",
                "Compacted. Workers write and read it, without a transaction, only where its name is set.",
                "HAMGATE_SENDERS_TOPIC",
                "senderSnapshot",
            ),
            "reports": _channel(
                _FEEDBACK, "Reports, off unless it is set.", "HAMGATE_FEEDBACK_TOPIC", "feedbackReport"
            ),
            "decisions": _channel(
                decisions_topic(_FEEDBACK),
                "Compacted; read read_committed.",
                "HAMGATE_FEEDBACK_TOPIC and `-decisions`",
                "feedbackDecision",
            ),
        },
        "operations": {
            "receiveEvents": _operation("receive", "events", "Each event is judged; a tombstone is skipped."),
            "receiveLists": _operation("receive", "lists", "In force within two seconds; a tombstone removes."),
            "receiveRegistry": _operation(
                "receive", "registry", "In force within two seconds, if nothing in it is wrong; a tombstone ends it."
            ),
            "sendVerdicts": _operation("send", "verdicts", "One for each readable event, in its key's order."),
            "sendDeadLetters": _operation(
                "send", "deadLetters", "One for each unreadable event, in the transaction of its neighbours' verdicts."
            ),
            "sendShadowReports": _operation("send", "shadowReports", "What a shadow model would have said."),
            "sendCampaigns": _operation("send", "campaigns", "What a worker has seen of campaigns, every 5 s at most."),
            "receiveCampaigns": _operation("receive", "campaigns", "What the other workers have seen."),
            "sendSenderSnapshots": _operation("send", "senderSnapshots", "Senders that are half-way to a limit."),
            "receiveSenderSnapshots": _operation("receive", "senderSnapshots", "Read when a partition is gained."),
            "receiveReports": _operation("receive", "reports", "Each is joined to its message, or refused by name."),
            "sendDecisions": _operation("send", "decisions", "What is believed of reports, and who changed it."),
        },
        "components": {
            "messages": {
                "event": _message("Event", "event-v1", _KEY, {"content-type": _CONTENT_TYPE} | _TRACE),
                "verdict": _message("Verdict", "verdict-v1", _SAME_KEY, _SAME_TRACE),
                "deadLetter": {
                    "title": "Dead letter",
                    "summary": "The event's value, byte for byte: anything but a tombstone.",
                    "contentType": "application/octet-stream",
                    "headers": {"$ref": "./dead-letter-headers.schema.json"},
                    "payload": {"type": "string", "format": "binary"},
                    "bindings": _bindings(_SAME_KEY),
                },
                "shadowDisagreement": _message("Shadow disagreement", "shadow-disagreement", {"type": "null"}),
                "shadowSummary": _message("Shadow summary", "shadow-summary", {"type": "null"}),
                "listEntry": _message("List entry", "list-entry", _ENTRY_KEY),
                "senderRegistry": {
                    "title": "Sender registry",
                    "summary": "The file that `hamgate registry push` has checked, as docs/operations.md says.",
                    "contentType": "application/octet-stream",
                    "headers": {
                        "type": "object",
                        "properties": {
                            "format": {"type": "string", "enum": list(FORMATS_OF_REGISTRY)},
                            "author": {"type": "string", "description": "Who pushed it."},
                            "reason": {"type": "string", "description": "Why."},
                        },
                    },
                    "payload": {"type": "string", "format": "binary"},
                    "bindings": _bindings({"type": "string", "const": KEY.decode()}),
                },
                "campaignSummary": _message("Campaign summary", "campaign-summary", _CAMPAIGN_KEY),
                "senderSnapshot": _message("Sender snapshot", "sender-snapshot", _HASH),
                "feedbackReport": _message("Report", "feedback-report-v1", _REPORTERS_KEY),
                "feedbackDecision": _message("Decision on reports", "feedback-decision-v1", _DECISIONS_KEY),
            }
        },
    }


def _channel(topic: str, description: str, setting: str, *messages: str) -> Schema:
    return {
        "address": topic,
        "description": f"{description} The name is {setting}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _operation(action: str, channel: str, summary: str) -> Schema:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _message(title: str, schema: str, key: Schema, headers: Schema | None = None) -> Schema:
    made: Schema = {"title": title, "contentType": _JSON}
    if headers:
        made["headers"] = {"type": "object", "properties": headers}
    return made | {"payload": {"$ref": f"./{schema}.schema.json"}, "bindings": _bindings(key)}


def _bindings(key: Schema) -> Schema:
    return {"kafka": {"key": key, "bindingVersion": "0.5.0"}}


def main() -> int:
    """Write, or check."""
    parser = argparse.ArgumentParser(prog="python -m deploy.formats", description=__doc__)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        for path in (late := stale()):
            print(f"{path} is out of step: python -m deploy.formats", file=sys.stderr)
        return 1 if late else 0
    FORMATS.mkdir(exist_ok=True)
    for path, content in files():
        path.write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
