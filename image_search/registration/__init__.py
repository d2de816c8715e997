"""From files to decoded images, embeddings and records in the store, in batches, with a report."""
