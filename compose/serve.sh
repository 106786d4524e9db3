#!/bin/sh
# Starts the gateway for docker-compose.yaml. Without MCP_SESSION_SECRET it makes a secret, in memory beside the sockets, that lasts
# as long as Envoy's container or this one: sessions survive the restart of either.
set -eu
secret=/run/mcp-extproc/session.secret
if [ -z "${MCP_SESSION_SECRET:-}" ]; then
  if [ ! -s "$secret" ]; then
    (umask 077 && head -c 32 /dev/urandom | base64 >"$secret.new" && mv "$secret.new" "$secret")
  fi
  MCP_SESSION_SECRET=$(cat "$secret")
  export MCP_SESSION_SECRET
fi
exec mcp-extproc serve "$@" --workers "$MCP_EXTPROC_WORKERS" --envoy-config /run/mcp-extproc
