# The renderer: EGL and Embree, dask for clusters; no torch, no compiler, no root.
#
#   docker/build.sh render
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" \
#       pointcmt-render:0.1.0 render --dataset toy --out S
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" --gpus all \
#       pointcmt-render:0.1.0 doctor
#
# --user: who owns the folder that is mounted; the image's own user may not write into yours.
#
# The base image is pinned in docker/.env. Debian's own image rather than Python's: its Python gets Debian's security fixes with everything
# else, and docker/check.sh can make the same system from Debian's packages where no image is to be
# had, so that what is tested is what is built.
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS system
COPY system-packages.sh /usr/local/sbin/
RUN system-packages.sh && apt-get clean && rm -rf /var/lib/apt/lists/*
# How libEGL finds NVIDIA's driver. NVIDIA's container toolkit brings the driver's libraries, and
# this file too, but only since its version 1.12 and only where the host has it.
RUN echo '{"file_format_version": "1.0.0", "ICD": {"library_path": "libEGL_nvidia.so.0"}}' \
    > /usr/share/glvnd/egl_vendor.d/10_nvidia.json
# Machine code compiled here must fit every CPU it may run on; that costs a few percent at most.
ENV PATH=/opt/pointcmt/bin:$PATH NUMBA_CPU_NAME=generic

FROM system AS build
WORKDIR /source
RUN python3 -m venv /pip && python3 -m venv --without-pip /opt/pointcmt
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY pointcmt pointcmt
RUN /pip/bin/pip --python /opt/pointcmt/bin/python install --no-cache-dir \
    --constraint constraints.txt '.[render,cluster]'
# Compiles and caches most of what is compiled on first use, and stops the build where something does
# not work.
WORKDIR /
RUN pointcmt doctor --compile

FROM system
LABEL org.opencontainers.image.title="pointcmt-render" org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/pointcmt /opt/pointcmt
RUN useradd --uid 10001 --create-home pointcmt && install -d -o pointcmt -g pointcmt /data
# What the toolkit brings with a GPU; compute alone would leave EGL out. Which GPUs is up to the
# command that starts the container (--gpus, compose.yaml, a device plugin): an image that asks for all
# of them gets them even where nobody meant it to.
ENV NVIDIA_DRIVER_CAPABILITIES=graphics,compute,utility PYTHONUNBUFFERED=1
# By number: Kubernetes cannot tell whether a name is root's.
USER 10001:10001
WORKDIR /data
# Light, and it writes nothing: whether the package can be started at all. `pointcmt doctor` draws
# and writes; a job that cannot go on ends by itself.
HEALTHCHECK --interval=5m --timeout=30s CMD ["pointcmt", "--version"]
# Python ends in order on SIGINT; a container's first process ignores SIGTERM.
STOPSIGNAL SIGINT
ENTRYPOINT ["pointcmt"]
CMD ["--help"]
