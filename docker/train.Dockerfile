# Training: torch, no renderer, no root.
#
#   docker/build.sh train
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" -v pointcmt-cache:/cache --gpus all \
#       pointcmt-train:0.1.0 train --data S --out RUN
#
# --user: who owns the folder that is mounted; the image's own user may not write into yours. The
# base image is pinned in docker/.env.
#
# constraints.txt fixes torch's version, the index its build: that of Python packages has the one
# for CUDA. For CPUs (gigabytes less), or another CUDA, give the index of torch's own builds that
# its installation page names: --build-arg PIP_EXTRA_INDEX_URL=… A build of the same version with a
# suffix of its own (2.13.0+cpu) fits the constraint and is preferred by pip.
#
# Several GPUs on one host talk through shared memory, of which Docker gives a container 64 MB: add
# --shm-size 1g. Reading data needs none.
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS system
# The compiler stays: Triton's kernels on GPUs and torch.compile build small C and C++ files.
RUN apt-get update && apt-get install -y --no-install-recommends \
    ca-certificates g++ python3-dev python3-venv && apt-get clean && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/pointcmt/bin:$PATH

FROM system AS build
# pip reads this variable by itself.
ARG PIP_EXTRA_INDEX_URL
WORKDIR /source
RUN python3 -m venv /pip && python3 -m venv --without-pip /opt/pointcmt
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY pointcmt pointcmt
RUN /pip/bin/pip --python /opt/pointcmt/bin/python install --no-cache-dir \
    --constraint constraints.txt '.[train,export]'
WORKDIR /
RUN pointcmt doctor --compile

FROM system
LABEL org.opencontainers.image.title="pointcmt-train" org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/pointcmt /opt/pointcmt
RUN useradd --uid 10001 --create-home pointcmt \
    && install -d -o pointcmt -g pointcmt /data && install -d -m 1777 /cache
# Pretrained weights and compiled kernels: mount a volume there to keep them. A new volume takes over
# the folder's mode, so that any user may write there. LOGNAME: torch asks for a user's name, which a
# number from --user does not have.
ENV XDG_CACHE_HOME=/cache HF_HOME=/cache/huggingface TRITON_CACHE_DIR=/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor MPLCONFIGDIR=/cache/matplotlib \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility PYTHONUNBUFFERED=1 LOGNAME=pointcmt
USER 10001:10001
WORKDIR /data
# No HEALTHCHECK: a training run ends by itself when something is wrong, and a second process on
# its GPU would cost it memory.
STOPSIGNAL SIGINT
ENTRYPOINT ["pointcmt"]
CMD ["--help"]
