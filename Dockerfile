# docker build -t imagegate . && docker run -p 8000:8000 imagegate
# Any base with Python 3.11 or newer as `python`, with pip; both stages need the same one.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /srv/imagegate
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY pyproject.toml constraints.txt /tmp/
# The dependencies alone, not the project: its wheel holds the training code. The environment gets no pip of its own.
# Extras of pyproject.toml, with spaces: --build-arg EXTRAS=otel for traces.
ARG EXTRAS=""
RUN python -c "import sys, tomllib; project = tomllib.load(open('/tmp/pyproject.toml', 'rb'))['project']; \
        extras = ' '.join(sys.argv[1:]).split(); \
        print(*project['dependencies'], *sum(map(project['optional-dependencies'].get, extras), []), sep='\n')" "${EXTRAS}" \
        > /tmp/requirements.txt \
    && python -m venv --without-pip venv \
    && python -m pip --python venv/bin/python install --no-compile \
        --constraint /tmp/constraints.txt --requirement /tmp/requirements.txt \
    && find venv -type d -name tests -prune -exec rm -r {} +
COPY app app
COPY model_artifacts/circles model_artifacts/circles
# Compiled here, since a read-only root cannot keep what Python compiles at the start. The unchecked kind never looks at
# the sources' dates, which copying may change. The modes must let any user read, whatever the umask of the checkout was.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash venv app && chmod -R a+rX .

FROM ${BASE_IMAGE}
WORKDIR /srv/imagegate
COPY --from=build /srv/imagegate/venv venv
COPY --from=build /srv/imagegate/app app
COPY --from=build /srv/imagegate/model_artifacts model_artifacts
ENV PATH=/srv/imagegate/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0 PORT=8000
USER 10001:10001
EXPOSE 8000
# Not urllib, which would send it through a proxy that the operator has set for the classifier.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", "import http.client, os, sys; \
    connection = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8000), timeout=2); \
    connection.request('GET', '/readyz'); sys.exit(connection.getresponse().status != 200)"]
CMD ["python", "-m", "app", "serve"]
