"""A dashboard from rows of panels: what each asks, in what unit, what it means and what to do about it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.promql import DEPLOYMENT, WORKER, age

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH: Final = 24
GREEN, AMBER, RED, GREY, BLUE = "green", "orange", "red", "#8e8e9c", "blue"
NOTHING: Final = "nothing yet"
# What a series' name means has one colour everywhere; all other names get theirs from the palette.
MEANING: Final = {
    "deliver": GREEN, "flag": AMBER, "block": RED, "unscored": GREY,
    "ham": GREEN, "spam": RED, "none": GREY,
    "committed": GREEN, "rolled-back": AMBER, "fenced": RED,
    "read": BLUE, "verdicts": GREEN, "dead letters": RED, "discarded": AMBER, "tombstones": GREY,
    "swapped": GREEN, "refused": RED, "withdrawn": AMBER,
}  # fmt: skip


@dataclass(frozen=True)
class Panel:
    """One panel. `queries` are PromQL and legend; `steps` the values from which it is amber, then red.

    `kind` is stat, lines, stack, heatmap or table; a low number is the bad one where `is_falling`. A table's columns
    are renamed by `names`, its rows sorted by the column `first`. `empty` is what it says without data. Where `is_log`
    the axis is logarithmic; `colored` are names that its legends may show, of those that have a meaning.
    """

    title: str
    kind: str
    unit: str
    means: str
    do: str
    queries: Sequence[tuple[str, str]]
    steps: tuple[float, float] | None = None
    is_falling: bool = False
    width: int = 8
    height: int = 7
    least: float | None = 0
    most: float | None = None
    decimals: int | None = None
    names: dict[str, str] = field(default_factory=dict)
    first: str = ""
    empty: str = NOTHING
    is_log: bool = False
    colored: Sequence[str] = ()

    def build(self) -> Any:  # noqa: ANN401 the library has a builder class for each kind of panel, without a common one
        """Make what the library renders."""
        panel = {
            "stat": self._stat,
            "lines": self._lines,
            "stack": self._stack,
            "heatmap": self._heatmap,
            "table": self._table,
        }[self.kind]()
        panel.title(self.title).description(f"{self.means}\n\n**Do:** {self.do}").datasource(SOURCE)
        panel.span(self.width).height(self.height)
        for number, (expr, legend) in enumerate(self.queries):
            panel.with_target(self._query(expr, legend, chr(ord("A") + number)))
        return panel

    def _query(self, expr: str, legend: str, ref: str) -> prometheus.Dataquery:
        query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref)
        if self.kind == "heatmap":
            return query.range().format(PromQueryFormat.HEATMAP)
        if self.kind == "table":
            return query.instant().format(PromQueryFormat.TABLE)
        return query.range().exemplar(self.unit == "s" and "_bucket" in expr)

    def _measured(self, panel: Any) -> Any:  # noqa: ANN401
        panel.unit(self.unit).no_value(self.empty)
        if self.decimals is not None:
            panel.decimals(self.decimals)
        if self.least is not None and not self.is_log:
            panel.min(self.least)
        if self.most is not None:
            panel.max(self.most)
        return panel.thresholds(
            builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(self._steps())
        )

    def _steps(self) -> list[dashboard.Threshold]:
        if self.steps is None:
            return [dashboard.Threshold(value=None, color=GREY if self.kind == "stat" else GREEN)]
        first, second = self.steps
        colors = (RED, AMBER, GREEN) if self.is_falling else (GREEN, AMBER, RED)
        values = (None, *sorted((first, second)))
        return [dashboard.Threshold(value=value, color=color) for value, color in zip(values, colors, strict=True)]

    def _stat(self) -> stat.Panel:
        panel = self._measured(stat.Panel())
        panel.graph_mode(common.BigValueGraphMode.AREA).color_mode(common.BigValueColorMode.VALUE)
        panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        return panel

    def _lines(self) -> timeseries.Panel:
        panel = self._measured(timeseries.Panel())
        panel.line_width(2).fill_opacity(8).show_points(common.VisibilityMode.NEVER)
        panel.color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        panel.legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        if self.is_log:
            panel.scale_distribution(
                common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
            )
        for name in self._named():
            fixed = {"mode": "fixed", "fixedColor": MEANING[name]}
            panel.override_by_name(name, [dashboard.DynamicConfigValue(id_val="color", value=fixed)])
        panel.tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        if self.steps:
            panel.thresholds_style(
                common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
            )
        return panel

    def _named(self) -> list[str]:
        legends = {legend for _, legend in self.queries}
        return [name for name in MEANING if name in legends or name in self.colored]

    def _stack(self) -> timeseries.Panel:
        panel = self._lines().fill_opacity(55).line_width(1)
        return panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))

    def _heatmap(self) -> heatmap.Panel:
        panel = heatmap.Panel().unit(self.unit).no_value(self.empty)
        panel.y_axis(heatmap.YAxisConfig().unit(self.unit))
        panel.color(
            heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
        )
        return panel.hide_legend()

    def _table(self) -> table.Panel:
        panel = table.Panel().unit(self.unit).no_value(self.empty)
        hidden = {"Time": True, "Value": True, "__name__": True, "job": True, "alertstate": True}
        columns = {"excludeByName": hidden, "renameByName": self.names}
        panel.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=columns))
        if LINK in self.names:
            link = {"title": "open the runbook", "url": "${__value.raw}", "targetBlank": True}
            value = [dashboard.DynamicConfigValue(id_val="links", value=[link])]
            panel.override_by_name(self.names[LINK], value)
        if self.first:
            by = {"sort": [{"field": self.first}]}
            panel.with_transformation(dashboard.DataTransformerConfig(id_val="sortBy", options=by))
        return panel


LINK: Final = "runbook_url"


def _annotation(name: str, color: str, expr: str) -> builders.AnnotationQuery:
    return builders.AnnotationQuery().name(name).datasource(SOURCE).enable(enable=True).icon_color(color).expr(expr)


def _annotations() -> list[builders.AnnotationQuery]:
    """Marks at the minute after a bundle came into force, and after a worker started."""
    loaded = age("hamgate_model_loaded_timestamp_seconds")
    start = f'process_start_time_seconds{{job="hamgate",{WORKER}}}'
    fresh = f"(timestamp({start}) - {start} < 60)"
    build = f"* on (namespace, job, instance) group_left (version) hamgate_build_info{{{WORKER}}}"
    return [
        _annotation("model changed", AMBER, f"count by (namespace, role) ({loaded} < 60)"),
        _annotation("worker started", BLUE, f"count by (namespace, version) ({fresh} {build})"),
    ]


@dataclass(frozen=True)
class Dashboard:
    """A dashboard of rows, each with a heading; `name` is its file and its address. `folded` rows start collapsed."""

    name: str
    title: str
    answers: str
    rows: Sequence[tuple[str, Sequence[Panel]]]
    folded: Sequence[str] = ()

    def build(self) -> dashboard.Dashboard:
        """Make what the library renders."""
        made = builders.Dashboard(f"hamgate / {self.title}").uid(f"hamgate-{self.name}").description(self.answers)
        made.tags(["hamgate"]).timezone("browser").time("now-1h", "now").refresh("15s").readonly()
        made.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        made.with_variable(builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        for name, label, query in _VARIABLES:
            made.with_variable(
                builders.QueryVariable(name)
                .label(label)
                .query(query)
                .datasource(SOURCE)
                .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
                .multi(multi=True)
                .include_all(include_all=True)
                .all_value(".*")
                .current(dashboard.VariableOption(text="All", value="$__all"))
            )
        for annotation in _annotations():
            made.annotation(annotation)
        made.link(builders.DashboardLink("hamgate").type(dashboard.DashboardLinkType.DASHBOARDS).tags(["hamgate"]))
        numbers = itertools.count(1)
        for heading, panels in self.rows:
            row = builders.Row(heading).id(next(numbers))
            if heading in self.folded:
                row.collapsed(collapsed=True)
                for panel in panels:
                    row.with_panel(panel.build().id(next(numbers)))
                made.with_row(row)
                continue
            made.with_row(row)
            for panel in panels:
                made.with_panel(panel.build().id(next(numbers)))
        return made.build()


# Each variable depends on the ones before it. A Prometheus outside Kubernetes gives no namespace: then only All is there.
_VARIABLES: Final = (
    ("namespace", "Namespace", "label_values(hamgate_ready, namespace)"),
    ("job", "Job", 'label_values(hamgate_ready{namespace=~"$namespace"}, job)'),
    ("instance", "Worker", f"label_values(hamgate_ready{{{DEPLOYMENT}}}, instance)"),
)
