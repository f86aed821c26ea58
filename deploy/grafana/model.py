"""Model: what it decides, whether its scores are spread as they should be, and how the shadow differs."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import Dashboard, Panel
from deploy.grafana.promql import DEPLOYMENT, WORKER, age, gauge, quantile, rate, share

MODEL: Final = Dashboard(
    "model",
    "Model",
    "Does the model judge as it did when it was made? What would the next one change?",
    [
        (
            "What it decides",
            [
                Panel(
                    "Labels",
                    "stack",
                    "mps",
                    "Verdicts by label.",
                    "a label gone: the bundle in force does not have it.",
                    [(rate("hamgate_verdicts_total", "label"), "{{label}}")],
                    colored=("ham", "spam", "none"),
                ),
                Panel(
                    "Share not delivered",
                    "lines",
                    "percentunit",
                    "Share of verdicts that flag or block, and the day's mean.",
                    "more than 15 points from it: HamgateVerdictShift.",
                    [
                        (f"hamgate:flagged:ratio_10m{{{DEPLOYMENT}}}", "last 10 min"),
                        (f"avg_over_time(hamgate:flagged:ratio_10m{{{DEPLOYMENT}}}[1d])", "day's mean"),
                    ],
                ),
                Panel(
                    "Without a score",
                    "lines",
                    "mps",
                    "Verdicts without a score, by reason.",
                    "deadline: judging is late, see the lag. non-finite-score: the model; go back to the last bundle. "
                    "empty-text: the sender's.",
                    [(rate("hamgate_unscored_total", "reason"), "{{reason}}")],
                ),
            ],
        ),
        (
            "Beside the score",
            [
                Panel(
                    "Decided by rules",
                    "stack",
                    "mps",
                    "Verdicts that a rule decided in the score's place: a list, what is known of a sender, a campaign.",
                    "a jump: an entry that matches more than was meant; `rule` in a verdict names it.",
                    [
                        (
                            rate("hamgate_rule_matches_total", "rule, action", only='dry_run="false"'),
                            "{{rule}} {{action}}",
                        )
                    ],
                    width=12,
                ),
                Panel(
                    "Rules in dry run",
                    "stack",
                    "mps",
                    "What rules in dry run would have done. They change nothing.",
                    "about what was expected: take the dry run off.",
                    [
                        (
                            rate("hamgate_rule_matches_total", "rule, action", only='dry_run="true"'),
                            "{{rule}} {{action}}",
                        )
                    ],
                    width=12,
                ),
            ],
        ),
        (
            "What it knows",
            [
                Panel(
                    "Outside the evaluation",
                    "lines",
                    "percentunit",
                    "Share of verdicts on texts that the bundle's evaluation does not cover: by language, by script, or "
                    "cut more finely than its own texts. Such a text is at most flagged, unless HAMGATE_ON_OUTSIDE says otherwise.",
                    "a rise: Outside the evaluation, in docs/operations.md. Always 0: the bundle does not say what it covers.",
                    [
                        (
                            share(
                                rate("hamgate_verdicts_by_flag_total", only='flag="outside"'),
                                rate("hamgate_verdicts_total"),
                            ),
                            "outside",
                        )
                    ],
                    most=1,
                ),
                Panel(
                    "Languages",
                    "stack",
                    "mps",
                    "Verdicts by the text's language; none: not known, as in most short texts.",
                    "a language that the bundle does not list: its texts are outside. The bundle's card says which it covers.",
                    [(rate("hamgate_verdicts_by_language_total", "language"), "{{language}}")],
                ),
                Panel(
                    "One-time codes and notices",
                    "lines",
                    "percentunit",
                    "Share of verdicts on texts that are recognised as one-time codes or plain notices, and of these the "
                    "share that is flagged.",
                    "many flagged: the model takes lawful notices for spam; fit the bands (hamgate calibrate) or retrain.",
                    [
                        (
                            share(
                                rate("hamgate_verdicts_by_flag_total", only='flag=~"one-time-code|notice"'),
                                rate("hamgate_verdicts_total"),
                            ),
                            "of all",
                        ),
                        (
                            share(
                                rate(
                                    "hamgate_verdicts_by_flag_total", only='flag=~"one-time-code|notice",action="flag"'
                                ),
                                rate("hamgate_verdicts_by_flag_total", only='flag=~"one-time-code|notice"'),
                            ),
                            "of these, flagged",
                        ),
                    ],
                    most=1,
                ),
            ],
        ),
        (
            "Scores",
            [
                Panel(
                    "Scores",
                    "heatmap",
                    "percentunit",
                    "Calibrated probabilities of not being ham, over time.",
                    "mass moving to the middle: the model is unsure of this traffic. A new band: a campaign, or another model.",
                    [(rate("hamgate_score_bucket", "le"), "{{le}}")],
                    width=12,
                    height=8,
                ),
                Panel(
                    "Drift",
                    "lines",
                    "none",
                    "What recent texts have of each signal, as a multiple of the bundle's own evaluation: 1 while they "
                    "fit. More or less spam does not move it.",
                    "above 1.4: HamgateDrift. outside: a language or a script; tokens: another style or language; "
                    "score: texts that the model is unsure of. Judge a carrier's sample; retrain if the traffic has changed.",
                    [(gauge("max", "hamgate_drift_ratio", "role, signal"), "{{role}} {{signal}}")],
                    steps=(1.2, 1.4),
                    width=6,
                    height=8,
                ),
                Panel(
                    "Score quantiles",
                    "lines",
                    "percentunit",
                    "Median and upper quantiles of the scores.",
                    "the median should sit near 0: most messages are ham.",
                    [(quantile(part, "hamgate_score"), f"p{round(part * 100)}") for part in (0.5, 0.9, 0.99)],
                    most=1,
                    width=6,
                    height=8,
                ),
            ],
        ),
        (
            "Which model",
            [
                Panel(
                    "Bundles in force",
                    "table",
                    "none",
                    "Name, digest, engine and labels, for each worker and role.",
                    "different digests in one role for more than a rollout's time: HamgateModelsDiffer.",
                    [(f"hamgate_model_info{{{WORKER}}}", "")],
                    width=12,
                    height=6,
                ),
                Panel(
                    "In force for",
                    "lines",
                    "s",
                    "How long each bundle has been in force. A drop to 0 is a change.",
                    "a drop at the moment of another alert: Bad model, in docs/operations.md.",
                    [
                        (
                            f"min by (instance, role) ({age('hamgate_model_loaded_timestamp_seconds')})",
                            "{{role}} {{instance}}",
                        )
                    ],
                    width=6,
                    height=6,
                ),
                Panel(
                    "Changes",
                    "lines",
                    "none",
                    "Bundles that came into force, were refused or withdrawn, in ten minutes.",
                    "`refused`: HamgateModelRefused; the log names what does not fit.",
                    [
                        (
                            f"sum by (outcome) (increase(hamgate_model_changes_total{{{WORKER}}}[10m]))",
                            "{{outcome}}",
                        )
                    ],
                    colored=("swapped", "refused", "withdrawn"),
                    width=6,
                    height=6,
                ),
                Panel(
                    "Share of each bundle",
                    "lines",
                    "percentunit",
                    "What share of the messages each bundle judges.",
                    "a canary: widen it when its disagreements have been read; remove it by its setting.",
                    [(gauge("avg", "hamgate_model_share_ratio", "role"), "{{role}}")],
                    most=1,
                ),
                Panel(
                    "Loading and swapping",
                    "lines",
                    "s",
                    "Time to load a bundle beside the old one, and from its coming into force to its first batch.",
                    "loading slow: its disk, or the processor is short. Judging goes on meanwhile.",
                    [
                        (quantile(0.99, "hamgate_model_load_seconds"), "load p99"),
                        (quantile(0.99, "hamgate_model_swap_seconds"), "swap p99"),
                    ],
                    is_log=True,
                ),
                Panel(
                    "Spam by bundle",
                    "lines",
                    "percentunit",
                    "Share of what each bundle labels other than ham.",
                    "a canary far from the primary judges differently: compare before it is widened.",
                    [
                        (
                            share(
                                rate("hamgate_messages_judged_total", "role", 'label!="ham"'),
                                rate("hamgate_messages_judged_total", "role"),
                            ),
                            "{{role}}",
                        )
                    ],
                    most=1,
                ),
            ],
        ),
        (
            "Shadow",
            [
                Panel(
                    "Disagreements",
                    "lines",
                    "mps",
                    "Messages that the shadow labels differently, by both labels.",
                    "`hamgate compare` reads which; many of one kind: read them before this bundle goes into force.",
                    [(rate("hamgate_shadow_disagreements_total", "label, shadow"), "{{label}} -> {{shadow}}")],
                ),
                Panel(
                    "Difference of scores",
                    "lines",
                    "none",
                    "Difference between the two scores of a message.",
                    "p50 far from 0: the bundles are calibrated differently; thresholds cannot be carried over.",
                    [
                        (quantile(part, "hamgate_shadow_score_difference"), f"p{round(part * 100)}")
                        for part in (0.5, 0.95)
                    ],
                    most=1,
                ),
                Panel(
                    "Skipped by the shadow",
                    "lines",
                    "mps",
                    "Messages of its share that the shadow was too slow to judge.",
                    "lower its share: it never delays the verdicts, but its figures then cover only a part.",
                    [(rate("hamgate_shadow_skipped_total"), "skipped")],
                ),
            ],
        ),
    ],
)
