# The exporter and what it needs to run; no build tools, no shell scripts, no configuration.
# Both stages are the same Python: a virtual environment belongs to the interpreter that made it.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/exporter
COPY deploy/requirements.txt /src/deploy/requirements.txt
RUN /opt/exporter/bin/pip install --require-hashes --only-binary :all: -r /src/deploy/requirements.txt
COPY pyproject.toml README.md LICENSE config.example.yaml /src/
COPY exporter /src/exporter
# Compiled here: with a read-only root nothing can be compiled later, and every start would take 0.8 s longer.
RUN /opt/exporter/bin/pip install --no-deps /src \
    && /opt/exporter/bin/pip uninstall --yes pip \
    && /opt/exporter/bin/python -m compileall -q -j 0 /opt/exporter/lib

FROM python:${PYTHON}-slim
COPY --from=build /opt/exporter /opt/exporter
RUN mkdir /etc/sidecar-exporter \
    && install -d -o 65532 -g 65532 -m 0700 /home/exporter
# HOME must be readable: drivers look there for certificates. The number, because Kubernetes checks runAsNonRoot by it.
ENV PATH=/opt/exporter/bin:$PATH HOME=/home/exporter PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /home/exporter
EXPOSE 10190
HEALTHCHECK --interval=15s --timeout=4s --start-period=10s --retries=3 CMD ["exporter", "healthcheck"]
# Configuration is read from /etc/sidecar-exporter/config.yaml, else from the environment alone.
ENTRYPOINT ["exporter"]
CMD ["run"]
