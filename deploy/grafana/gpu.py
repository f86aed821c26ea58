"""GPU: memory, use, power, heat, and the tokens it gets through."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import Dashboard, Panel
from deploy.grafana.promql import WORKER, gauge, quantiles, rate

GPU: Final = Dashboard(
    "gpu",
    "GPU",
    "Is the device used, and has it room? Open the rows of the device where workers have one.",
    [
        (
            "Use",
            [
                Panel(
                    "Tokens a second",
                    "lines",
                    "ops",
                    "Tokens judged and committed, by worker.",
                    "compare with the sizing table of docs/operations.md: far below it under load, the judge waits for something.",
                    [(rate("hamgate_tokens_total", "instance"), "{{instance}}")],
                    width=12,
                ),
                Panel(
                    "A batch on the device",
                    "lines",
                    "s",
                    "The model's time for a batch.",
                    "rising at the same tokens: it is hot, capped, or shared.",
                    quantiles("hamgate_inference_seconds"),
                    is_log=True,
                    width=12,
                ),
            ],
        ),
        (
            "Device: memory and use",
            [
                Panel(
                    "Memory",
                    "lines",
                    "bytes",
                    "Of the device: used and total. Of this process: allocated and reserved.",
                    "used far above reserved: another process is on the device.",
                    [(gauge("sum", "hamgate_gpu_memory_bytes", "instance, kind"), "{{kind}} {{instance}}")],
                ),
                Panel(
                    "Utilisation",
                    "lines",
                    "percentunit",
                    "Share of time that a kernel ran.",
                    "low under load: the reader or the writer is the limit; the Latency dashboard says which.",
                    [(gauge("avg", "hamgate_gpu_utilization_ratio", "instance"), "{{instance}}")],
                    most=1,
                    width=6,
                ),
                Panel(
                    "Memory left",
                    "lines",
                    "percentunit",
                    "Share of the device that is free.",
                    "below 5 %: lower HAMGATE_TOKEN_BUDGET, or remove the shadow.",
                    [
                        (
                            f'1 - hamgate_gpu_memory_bytes{{kind="used",{WORKER}}} / on (namespace, job, instance) hamgate_gpu_memory_bytes{{kind="total",{WORKER}}}',
                            "{{instance}}",
                        )
                    ],
                    steps=(0.1, 0.05),
                    is_falling=True,
                    most=1,
                    width=5,
                ),
                Panel(
                    "Out of memory",
                    "stat",
                    "none",
                    "Times in an hour that the engine ran out and halved its token budget.",
                    "not 0: HamgateGpuOutOfMemory.",
                    [(f"sum(increase(hamgate_gpu_out_of_memory_total{{{WORKER}}}[1h]))", "times")],
                    steps=(1, 3),
                    width=5,
                    decimals=0,
                ),
            ],
        ),
        (
            "Device: power",
            [
                Panel(
                    "Power",
                    "lines",
                    "watt",
                    "Power draw of each device.",
                    "at its cap under load it slows its clock; that is normal.",
                    [(gauge("sum", "hamgate_gpu_power_watts", "instance"), "{{instance}}")],
                ),
                Panel(
                    "Heat",
                    "lines",
                    "celsius",
                    "Temperature of each device.",
                    "above 85: the host's cooling; it will slow down by itself.",
                    [(gauge("max", "hamgate_gpu_temperature_celsius", "instance"), "{{instance}}")],
                    steps=(80, 87),
                ),
                Panel(
                    "Energy for a thousand messages",
                    "lines",
                    "joule",
                    "Power over messages.",
                    "a slow rise over weeks: shorter batches, or a device that wears.",
                    [(f"1000 * {gauge('sum', 'hamgate_gpu_power_watts')} / {rate('hamgate_verdicts_total')}", "joule")],
                ),
            ],
        ),
    ],
    folded=("Device: memory and use", "Device: power"),
)
