# One image for the servers and the runs of docker-compose.yml: CPU, from the same lock as everywhere else.
FROM python:3.11-slim-bookworm

# g++: torch compiles the merge pass on first use.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ make \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 psomerge \
 && install --directory --owner=psomerge --group=psomerge /data/artifacts /data/home

WORKDIR /opt/psomerge
COPY . .
# Bytecode is made here, because the user below may not write it: without it every start of vLLM takes half a minute longer.
RUN --mount=type=cache,target=/root/.cache UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy locks/bootstrap.sh cpu

ENV PATH=/opt/psomerge/.venv/bin:$PATH DO_NOT_TRACK=1 PSOMERGE_HOME=/data/home
USER psomerge
CMD ["psomerge", "--help"]
