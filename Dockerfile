# The API and the worker: one image, two commands.
FROM python:3.11-slim-bookworm

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
WORKDIR /opt/metia

# Torch first: any other package that wants it must find the pinned one.
COPY requirements.txt ./
RUN pip install --no-cache-dir "$(grep '^torch==' requirements.txt)" \
 && pip install --no-cache-dir -r requirements.txt

# PostgreSQL's driver is LGPL, and needed only by the profile `scale`.
ARG WITH_POSTGRESQL=
COPY requirements-postgresql.txt ./
RUN test -z "$WITH_POSTGRESQL" || pip install --no-cache-dir -r requirements-postgresql.txt

COPY api.py errors.py settings.py gunicorn.conf.py metia ./
COPY db db
COPY docs/examples docs/examples
COPY orthanc orthanc
COPY segmentation segmentation
COPY unetr unetr
RUN python -m compileall -q . \
 && groupadd --gid 10001 metia \
 && useradd --uid 10001 --gid metia --no-create-home --shell /usr/sbin/nologin metia \
 && install -d -o metia -g metia /var/lib/metia /etc/metia/service /etc/metia/archive /etc/metia/proxy

USER 10001:10001
CMD ["gunicorn", "-c", "gunicorn.conf.py", "--bind", "0.0.0.0:5000", "api:create_app()"]
