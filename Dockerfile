# Not built by a container engine yet; its steps were run by hand in an empty environment: docs/adr/0011-container.md says which.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements.txt requirements-dev.txt ./
RUN python -m venv --without-pip /opt/draftd \
    && pip --python /opt/draftd/bin/python install --no-compile --only-binary :all: --require-hashes -r requirements.txt
# The build tool by its hashes too, out of the development lock. If it comes to need another package, pip says so here.
RUN awk '/^[a-z]/ { keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } keep' requirements-dev.txt \
        > requirements-build.txt \
    && pip install --only-binary :all: --require-hashes -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY alembic alembic
COPY prompts prompts
COPY src src
# Bytecode that is never checked against its source: nobody changes a file of an image, and times of files may change.
RUN python -m hatchling build -t wheel -d dist \
    && pip --python /opt/draftd/bin/python install --no-compile --no-deps --no-index dist/*.whl \
    && pip --python /opt/draftd/bin/python check \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/draftd/lib

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="draftd" \
      org.opencontainers.image.description="Turns screenshots of posts, mails and chats into three ready replies" \
      org.opencontainers.image.licenses="MIT"
# The base image comes without the bytecode of the standard library, and the user below could not keep it.
RUN python -m compileall -q -j 0 -x site-packages --invalidation-mode unchecked-hash \
        "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && groupadd --gid 10001 draftd \
    && useradd --uid 10001 --gid draftd --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin draftd
COPY --from=build /opt/draftd /opt/draftd
# litellm refuses to be imported where no temporary directory is writable; /dev/shm is, even with a read-only root.
ENV PATH=/opt/draftd/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/dev/shm
WORKDIR /
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["draftd", "health"]
# The kernel drops a signal for process 1 that has no handler for it yet, and keeps one that is blocked: so a SIGTERM waits until
# draftd has its handlers, and unblocks it.
ENTRYPOINT ["env", "--block-signal=TERM,INT,HUP", "draftd"]
CMD ["run"]
