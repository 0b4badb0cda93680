# Not built by a container engine yet; docs/adr/0011-container.md lists the steps that were run by hand.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements.txt requirements-dev.txt ./
RUN python -m venv --without-pip /opt/draftd \
    && pip --python /opt/draftd/bin/python install --no-compile --only-binary :all: --require-hashes -r requirements.txt
# The build tool too is installed by its hashes, from the development lock. If it needs another package, pip fails here.
RUN awk '/^[a-z]/ { keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } keep' requirements-dev.txt \
        > requirements-build.txt \
    && pip install --only-binary :all: --require-hashes -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY alembic alembic
COPY prompts prompts
COPY src src
# Bytecode is never checked against its source: files in an image do not change, but their times may.
RUN python -m hatchling build -t wheel -d dist \
    && pip --python /opt/draftd/bin/python install --no-compile --no-deps --no-index dist/*.whl \
    && pip --python /opt/draftd/bin/python check \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/draftd/lib

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="draftd" \
      org.opencontainers.image.description="Turns screenshots of posts, emails and chats into three ready replies" \
      org.opencontainers.image.licenses="MIT"
# The base image has no bytecode of the standard library, and the user below could not store it.
RUN python -m compileall -q -j 0 -x site-packages --invalidation-mode unchecked-hash \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && groupadd --gid 10001 draftd \
    && useradd --uid 10001 --gid draftd --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin draftd
COPY --from=build /opt/draftd /opt/draftd
# litellm cannot be imported without a writable temporary directory; /dev/shm is one, even with a read-only root.
ENV PATH=/opt/draftd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/dev/shm
WORKDIR /
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["draftd", "health"]
# The kernel drops signals that process 1 has no handler for, but keeps blocked ones: a SIGTERM waits until draftd has set its
# handlers and unblocks it.
ENTRYPOINT ["env", "--block-signal=TERM,INT,HUP", "draftd"]
CMD ["run"]
