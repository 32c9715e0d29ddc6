# One image for every service of docker-compose.yml but Redis and PostgreSQL. No secret is needed to
# build it, and none is in it.
FROM python:3.11-slim AS build
WORKDIR /build
RUN python -m venv /opt/paybatch
COPY requirements.lock pyproject.toml README.md celeryconfig.py ./
COPY workers workers
COPY batches batches
# What the tests need is in requirements.lock too: as constraints it only says which versions.
RUN /opt/paybatch/bin/pip install --no-cache-dir --disable-pip-version-check \
    --constraint requirements.lock ".[monitoring]"

FROM python:3.11-slim
COPY --from=build /opt/paybatch /opt/paybatch
# Nothing here is its own: the file system may be read-only, with /tmp to write in.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin paybatch
ENV PATH=/opt/paybatch/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /srv
USER 10001:10001
# Without a shell in between: signals reach the program itself.
CMD ["paybatch", "--help"]
