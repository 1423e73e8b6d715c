# The page and the service on processors, as small as PyTorch allows:
#   docker build -t draggan . && docker run --rm -p 127.0.0.1:7860:7860 draggan
# With --build-arg EXTRAS=ray (or mcp, provenance, several with commas) those are in it, too.
# For CUDA build with --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 and run with --gpus all.

FROM python:3.12-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY requirements.txt .
RUN python -m venv /opt/draggan \
    && grep '^torch' requirements.txt > torch.txt \
    && /opt/draggan/bin/pip install --index-url "$TORCH_INDEX" -r torch.txt \
    && /opt/draggan/bin/pip install -r requirements.txt
COPY . .
ARG EXTRAS=
RUN /opt/draggan/bin/pip install --no-deps . \
    && if [ -n "$EXTRAS" ]; then /opt/draggan/bin/pip install ".[$EXTRAS]"; fi

FROM python:3.12-slim
RUN useradd --uid 1000 --create-home draggan
COPY --from=build /opt/draggan /opt/draggan
USER draggan
WORKDIR /home/draggan
ENV PATH=/opt/draggan/bin:$PATH PYTHONUNBUFFERED=1 DRAGGAN_HOME=/home/draggan/models
# Made here, so that a volume in its place belongs to the same user.
RUN mkdir models
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/health', timeout=4)"]
CMD ["draggan", "app", "--listen", "--port", "7860"]
