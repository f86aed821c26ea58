"""Everything to run hamgate with, besides the worker itself.

Dockerfile, kubernetes/   the images, and manifests with overlays; docker-compose.yml stands in the root
prometheus/, grafana/     service levels, alert rules and dashboards as code; alertmanager/: two empty receivers
render                    writes rules and dashboards from that code (`--check`: fail if they differ)
formats                   writes docs/formats from the worker's types (`--check` too)
kafka/                    brokers on this machine, for tests, demo and development
drill/                    incidents that are provoked, until their alerts fire and end
install.sh, tools         what `make install` and `make operate-check` fetch; worker.lock: the images' packages
"""
