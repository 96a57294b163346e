# One image for every command: docker run standings serve, ... migrate, ... doctor.
FROM python:3.11-slim-bookworm AS builder
WORKDIR /src
RUN python -m venv /opt/standings
ENV PATH=/opt/standings/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# First what changes seldom, so that a change of the code does not fetch it again.
COPY requirements/runtime.txt requirements/
RUN pip install --require-hashes --only-binary :all: --requirement requirements/runtime.txt
# The build tool, in an environment of its own, by the same hashes as everything else.
COPY requirements/build.txt requirements/
RUN python -m venv /opt/build \
  && /opt/build/bin/pip install --require-hashes --only-binary :all: \
    --requirement requirements/build.txt
COPY . .
# ./protos, not protos, which would be somebody else's package.
RUN /opt/build/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels \
    ./protos . \
  && pip install --no-deps --no-index /wheels/*.whl \
  # The rooms have plain names: make sure that nobody else's package took one.
  && python -P -c "from importlib.metadata import packages_distributions as by_name; \
rooms = 'bench bootstrap chaos cli core jobs resilience server sharding storage'.split(); \
strangers = {room: by_name()[room] for room in rooms if by_name()[room] != ['standings']}; \
assert not strangers, strangers" \
  && pip uninstall --yes pip

FROM python:3.11-slim-bookworm
COPY --from=builder /opt/standings /opt/standings
ENV PATH=/opt/standings/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
  STANDINGS_SERVER_ADDRESS=0.0.0.0:50051 STANDINGS_SERVER_HEALTH_ADDRESS=127.0.0.1:50054 \
  STANDINGS_METRICS_ADDRESS=0.0.0.0:9464 \
  STANDINGS_STATE_DIRECTORY=/var/lib/standings
# It serves other machines, so it starts with TLS and known callers only, or with --insecure:
# docs/security.md.
# A volume that is mounted here belongs to the server, too; all else may be read only.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/standings
EXPOSE 50051 9464
WORKDIR /tmp
# A number, so that a cluster that forbids root can tell.
USER 10001:10001
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s CMD ["standings", "health"]
ENTRYPOINT ["standings"]
CMD ["serve"]
