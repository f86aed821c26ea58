"""Everything to run hamgate with, besides the worker itself.

Dockerfile, kubernetes/   the images, and manifests with overlays; docker-compose.yml stands in the root
helm/                     the chart that `kubernetes.chart` makes from those manifests
prometheus/, grafana/     service levels, alert rules and dashboards as code; alertmanager/: two empty receivers
site                      what differs from site to site, site.toml
render                    writes rules, dashboards and the chart from all that (`--check`: fail if they differ)
pins, smoke               versions of all images; docker-compose.yml from `up` to `down`, where Docker is
formats                   writes docs/formats from the worker's types (`--check` too)
kafka/                    brokers on this machine, for tests, demo and development
drill/                    incidents that are provoked, until their alerts fire and end
install.sh, tools         what `make install` and `make operate-check` fetch; worker.lock: the images' packages
"""
