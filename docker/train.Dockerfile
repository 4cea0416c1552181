# Training: torch, no renderer, no root.
#
#   docker build -f docker/train.Dockerfile -t pointcmt-train .
#   docker run --rm --gpus all -v "$PWD:/data" -v pointcmt-cache:/cache \
#       pointcmt-train train --data S --out RUN
#
# constraints.txt fixes torch's version, the index its build: that of Python packages has the one
# for CUDA. For CPUs (gigabytes less), or another CUDA, give the index of torch's own builds that
# its installation page names: --build-arg PIP_EXTRA_INDEX_URL=… A build of the same version with a
# suffix of its own (2.13.0+cpu) fits the constraint and is preferred by pip.
#
# Several GPUs on one host talk through shared memory, of which Docker gives a container 64 MB: add
# --shm-size 1g. Reading data needs none.
FROM debian:bookworm-slim AS system
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
RUN pointcmt doctor

FROM system
LABEL org.opencontainers.image.title="pointcmt-train" org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/pointcmt /opt/pointcmt
RUN useradd --uid 10001 --create-home pointcmt \
    && install -d -o pointcmt -g pointcmt /data /cache
# Pretrained weights and compiled kernels: mount a volume there to keep them.
ENV XDG_CACHE_HOME=/cache HF_HOME=/cache/huggingface TRITON_CACHE_DIR=/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor MPLCONFIGDIR=/cache/matplotlib \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
# No HEALTHCHECK: a training run ends by itself when something is wrong, and a second process on
# its GPU would cost it memory.
STOPSIGNAL SIGINT
ENTRYPOINT ["pointcmt"]
CMD ["--help"]
