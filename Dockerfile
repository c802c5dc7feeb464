# `docker run IMAGE train` and `docker run IMAGE serve`. Built by scripts/build-image; needs BuildKit.
ARG BASE_IMAGE=debian:bookworm-slim
ARG VARIANT=gpu

FROM ${BASE_IMAGE} AS base
RUN apt-get update -q \
    && apt-get install -qy --no-install-recommends ca-certificates libgomp1 libquadmath0 python3 zlib1g \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/cache/ldconfig/* /var/log/* \
    && mkdir /usr/share/doc/semseg-container \
    && dpkg-query -W -f '${Package} ${Version}\n' > /usr/share/doc/semseg-container/debian-packages.txt

# Tools that only the build needs. Its pip installs into the environment of the image, which has no pip.
FROM base AS builder
RUN apt-get update -q && apt-get install -qy --no-install-recommends gcc libc6-dev python3-venv
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/semseg
COPY docker/pip docker/trim docker/torch-requirements docker/libcuda_stub.c docker/requirements-build.txt /src/docker/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/pip \
    /src/docker/pip install --no-deps --require-hashes -r /src/docker/requirements-build.txt

FROM builder AS packages
ARG VARIANT
COPY docker/requirements-${VARIANT}*.txt docker/requirements-numpy2.txt /src/docker/
RUN --mount=type=secret,id=pip --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/pip \
    pip="/src/docker/pip --python /opt/semseg/bin/python" packages=/src/docker/requirements-${VARIANT}.txt \
    && if [ "${VARIANT}" = torch ]; then \
        packages="/src/docker/requirements-numpy2.txt -r $(/src/docker/torch-requirements $pip)"; \
    fi \
    && $pip install --no-deps --require-hashes -r $packages \
    && /src/docker/trim /opt/semseg
RUN if [ "${VARIANT}" = gpu ]; then \
        mkdir /opt/semseg/lib/no-gpu \
        && gcc -shared -O1 -Wall -Werror -Wl,-soname,libcuda.so.1 -o /opt/semseg/lib/no-gpu/libcuda.so.1 \
            /src/docker/libcuda_stub.c; \
    fi

# This project's own package in a layer of its own: when it changes, the layer of the others is reused.
FROM packages AS package
ARG WITH_WEIGHTS=
COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN /src/docker/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel /src \
    && /src/docker/pip --python /opt/semseg/bin/python install --no-deps --prefix /package /wheel/*.whl \
    && cp -a /package/. /opt/semseg/
RUN mkdir /doc && cp /src/LICENSE /doc/ \
    && /build/bin/pip-licenses --python /opt/semseg/bin/python --format plain-vertical --no-license-path --with-system \
        --with-license-file --output-file /doc/python-packages.txt
RUN --mount=type=secret,id=ca \
    mkdir -p /weights/models \
    && if [ -s /run/secrets/ca ]; then export REQUESTS_CA_BUNDLE=/run/secrets/ca; fi \
    && if [ -n "${WITH_WEIGHTS}" ]; then MXNET_HOME=/weights /opt/semseg/bin/semseg fetch-weights ${WITH_WEIGHTS}; fi

FROM base AS base-cpu

# By default, NVIDIA's container runtime gives an image access to the GPUs that it asks for, and mounts the driver's
# libraries for the capabilities named here.
FROM base AS base-gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM base-gpu AS base-torch

FROM base-${VARIANT}
COPY --from=packages /opt/semseg /opt/semseg
COPY --from=package /weights /opt/mxnet
COPY --from=package /doc /usr/share/doc/semseg-container
COPY --from=package /package /opt/semseg
COPY docker/entrypoint /opt/semseg/bin/entrypoint
ENV PATH=/opt/semseg/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MXNET_HOME=/opt/mxnet
EXPOSE 8080
ENTRYPOINT ["/opt/semseg/bin/entrypoint"]
CMD ["train"]
ARG VARIANT
ARG VERSION=
ARG REVISION=
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
      org.opencontainers.image.title="semseg-container" \
      org.opencontainers.image.description="Open replacement for the Amazon SageMaker built-in Semantic Segmentation algorithm (${VARIANT})" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
