# The application for compose.yaml, with the drivers of all engines.
FROM python:3.11-slim

WORKDIR /app
COPY requirements*.txt ./
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
      -r requirements.txt -r requirements-postgres.txt -r requirements-milvus.txt -r requirements-redis.txt \
      -r requirements-elasticsearch.txt -r requirements-s3.txt -r requirements-mcp.txt -r requirements-video.txt \
      -r requirements-ocr.txt -r requirements-formats.txt -r requirements-raw.txt
COPY *.py *.sql ./
COPY image_search image_search
COPY demo demo
COPY images images

# Everything that is kept goes to /app/data: the embedded library, originals in a folder, and models of the hub.
RUN useradd --create-home app && mkdir data && chown app data
USER app
ENV HF_HOME=/app/data/huggingface
VOLUME /app/data
EXPOSE 8899
CMD ["python", "ImageSearch.py"]
